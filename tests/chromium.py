"""A page in headless Chromium: its text, its console, what it asks for.

Chromium's own protocol, over two pipes: no package is needed for it.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-dev-shm-usage"),
    *("--no-first-run", "--remote-debugging-pipe"),
)
SECONDS = 60  # until it is ended, if nothing else is said
# Chromium reads from file 3 and writes to file 4.
START = """
import fcntl, os, sys
high = [fcntl.fcntl(int(x), fcntl.F_DUPFD, 10) for x in sys.argv[1:3]]
for number, file in zip((3, 4), high):
    os.dup2(file, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find():
    """The path of a browser; `KERAS_CONVNEXT_CHROMIUM` or one by its name."""
    named = os.environ.get("KERAS_CONVNEXT_CHROMIUM")
    return named or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A browser with one page.

    Attributes:
        events: all that it told so far.
    """

    def __init__(self, to_browser, from_browser):
        self._to, self._from = to_browser, from_browser
        self._count, self._session = 0, None
        self.events = []

    def send(self, method, **params):
        """Asks for something, and returns the answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        while True:
            answer = self._read()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url, width):
        """Opens a page of so many pixels, and waits until it is loaded."""
        if not self._session:
            target = self.send("Target.createTarget", url="about:blank")
            answer = self.send("Target.attachToTarget", **target, flatten=True)
            self._session = answer["sessionId"]
            for domain in ("Page", "Runtime", "Log", "Network"):
                self.send(f"{domain}.enable")
        self.events.clear()
        self.send(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1},
            mobile=width < 600,
        )
        self.send("Page.navigate", url=url)
        while not self.told("Page.loadEventFired"):
            self._read()

    def value(self, expression):
        """What a piece of JavaScript gives."""
        answer = self.send(
            "Runtime.evaluate", expression=expression, returnByValue=True
        )
        return answer["result"].get("value")

    def told(self, *methods):
        """What it told of some kinds."""
        return [x["params"] for x in self.events if x["method"] in methods]

    def _read(self):
        message = b""
        while not message.endswith(b"\0"):
            part = self._from.read(1)
            assert part, "the browser has ended"
            message += part
        answer = json.loads(message[:-1])
        if "method" in answer:
            self.events.append(answer)
        return answer


@contextlib.contextmanager
def browser(path, seconds=SECONDS):
    """A `Browser` for as long as the context lasts, and for so long at most."""
    theirs, to_browser = os.pipe()
    from_browser, ours = os.pipe()
    # Its children may still write there when it has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", START, str(theirs), str(ours)),
                *(path, *FLAGS, f"--user-data-dir={folder}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs, ours),
        )
        watchdog = threading.Timer(seconds, process.kill)
        watchdog.start()
        os.close(theirs)
        os.close(ours)
        with (
            open(to_browser, "wb") as to_file,
            open(from_browser, "rb") as from_file,
        ):
            try:
                yield Browser(to_file, from_file)
            finally:
                watchdog.cancel()
                process.kill()
                process.wait()

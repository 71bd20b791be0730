"""A page in headless Chromium: text, console, requests, a picture of it.

Chromium's own protocol, over two pipes: no package is needed for it.
"""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-dev-shm-usage"),
    *("--no-first-run", "--remote-debugging-pipe"),
)
SECONDS = 60  # until it is ended, if nothing else is said
READ = 2**16  # bytes at a time
DOMAINS = ("Runtime", "Log", "Network")
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
        self._received, self.events = b"", []

    def send(self, method, **params):
        """Asks for something, and returns the answer."""
        asked = self._write(self._session, method, params)
        while True:
            answer = self._read()
            if answer.get("id") == asked:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, url, width, scheme="light"):
        """Opens a page of so many pixels, and waits until it is loaded.

        Args:
            url: of the page.
            width: of the window, pixels.
            scheme: of colors that the reader prefers, `"light"` or `"dark"`.
        """
        if not self._session:
            target = self.send("Target.createTarget", url="about:blank")
            answer = self.send("Target.attachToTarget", **target, flatten=True)
            self._session = answer["sessionId"]
            for domain in ("Page", *DOMAINS):
                self.send(f"{domain}.enable")
            # Workers begin once what they do is told, too.
            self.send(
                "Target.setAutoAttach",
                **{"autoAttach": True, "flatten": True},
                waitForDebuggerOnStart=True,
            )
        self.resize(width)
        self.dress(scheme)
        self._go(url)

    def _go(self, url):
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not self.told("Page.loadEventFired"):
            self._read()

    def resize(self, width):
        """Gives the page another width, of a phone if it is small."""
        self.send(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 900, "deviceScaleFactor": 1},
            mobile=width < 600,
        )

    def dress(self, scheme):
        """Says which colors the reader prefers, `"light"` or `"dark"`."""
        media = {"name": "prefers-color-scheme", "value": scheme}
        self.send("Emulation.setEmulatedMedia", features=[media])

    def forget(self, address):
        """Leaves the page, and removes what those of a server have stored."""
        if self._session:
            self._go("about:blank")
            self.send(
                "Storage.clearDataForOrigin",
                **{"origin": address, "storageTypes": "local_storage"},
            )

    def picture(self, most=3000):
        """The page as the bytes of a PNG file, down to so many pixels."""
        root = "document.documentElement"
        width, height = (
            self.value(f"{root}.{x}") for x in ("clientWidth", "scrollHeight")
        )
        answer = self.send(
            "Page.captureScreenshot",
            captureBeyondViewport=True,
            clip={
                **{"x": 0, "y": 0, "width": width},
                **{"height": min(height, most), "scale": 1},
            },
        )
        return base64.b64decode(answer["data"])

    def value(self, expression):
        """What a piece of JavaScript gives, or its promise."""
        answer = self.send(
            "Runtime.evaluate",
            **{"expression": expression, "returnByValue": True},
            awaitPromise=True,
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def choose(self, selector, path):
        """Gives a file to an `<input>`, as people do."""
        root = self.send("DOM.getDocument")["root"]["nodeId"]
        found = self.send("DOM.querySelector", nodeId=root, selector=selector)
        self.send("DOM.setFileInputFiles", files=[str(path)], **found)

    def wait(self, expression):
        """Waits until a piece of JavaScript gives what is true."""
        while not self.value(expression):
            time.sleep(0.05)

    def close(self):
        """Asks it to end; it may answer no more."""
        self._write(None, "Browser.close", {})

    def told(self, *methods):
        """What it told of some kinds."""
        return [x["params"] for x in self.events if x["method"] in methods]

    def _write(self, session, method, params):
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._to.write(json.dumps(message).encode() + b"\0")
        self._to.flush()
        return self._count

    def _read(self):
        while b"\0" not in self._received:
            part = self._from.read1(READ)
            assert part, "the browser has ended"
            self._received += part
        message, _, self._received = self._received.partition(b"\0")
        answer = json.loads(message)
        if "method" in answer:
            self.events.append(answer)
        if answer.get("method") == "Target.attachedToTarget":
            self._begin(**answer["params"])
        return answer

    def _begin(self, sessionId, targetInfo, waitingForDebugger):
        """Lets a worker run; nobody waits for the answers."""
        if waitingForDebugger:
            for domain in DOMAINS:
                self._write(sessionId, f"{domain}.enable", {})
            self._write(sessionId, "Runtime.runIfWaitingForDebugger", {})


@contextlib.contextmanager
def browser(path, seconds=SECONDS, flags=()):
    """A `Browser` for as long as the context lasts, and for so long at most."""
    theirs, to_browser = os.pipe()
    from_browser, ours = os.pipe()
    # Its children may still write there when it has ended.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [
                *(sys.executable, "-c", START, str(theirs), str(ours)),
                *(path, *FLAGS, *flags, f"--user-data-dir={folder}"),
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
            opened = Browser(to_file, from_file)
            try:
                yield opened
            finally:
                # By itself it ends its children, too.
                with contextlib.suppress(BrokenPipeError):
                    opened.close()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                watchdog.cancel()
                process.kill()
                process.wait()

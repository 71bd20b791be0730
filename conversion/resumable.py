"""What the batch tools share: jobs that resume, and a manifest of them."""

import json

from keras_convnext._util.writing import written_aside


def run(jobs, folder, is_done, work, as_markdown, done):
    """Works through jobs, keeping `manifest.json` and `manifest.md`.

    Args:
        jobs: dict from key to what `is_done` and `work` are called with.
        folder: where the manifest is; made if it is missing.
        is_done: whether an entry of the manifest, perhaps `None`, stands.
        work: returns the entry of a job; what it raises is noted, and the
            rest go on.
        as_markdown: the lines of `manifest.md` for a manifest.
        done: the participle of the last line, such as `"converted"`.

    Returns:
        The exit status: 1 if a job failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text()) if path.exists() else {}
    for number, (key, job) in enumerate(jobs.items(), start=1):
        progress = f"[{number}/{len(jobs)}] {key}"
        if is_done(manifest.get(key), *job):
            print(f"{progress}: done before", flush=True)
            continue
        try:
            manifest[key] = work(*job)
        except Exception as error:  # the rest go on
            manifest[key] = {
                "status": "failed",
                "error": f"{type(error).__name__}: {error}",
            }
        contents = {
            "manifest.json": json.dumps(manifest, indent=1),
            "manifest.md": "\n".join(as_markdown(manifest)) + "\n",
        }
        for name, content in contents.items():
            with written_aside(folder / name) as unfinished:
                unfinished.write_text(content)
        print(f"{progress}: {manifest[key]['status']}", flush=True)
    failed = [key for key in jobs if manifest[key]["status"] == "failed"]
    print(f"{len(jobs) - len(failed)} {done}, {len(failed)} failed")
    return 1 if failed else 0

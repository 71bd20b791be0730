"""Work in threads, whose results come in order."""

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor

WORKERS = (os.cpu_count() or 1) + 1  # one waits for another in turn


def in_order(function, items, workers=WORKERS):
    """Yields `function(item)` of all items, with some worked on ahead.

    Args:
        function: called in threads.
        items: iterable.
        workers: int, how many threads, and how many results may wait.

    Examples:
        >>> from keras_convnext.data.threads import in_order
        >>> list(in_order(abs, [-1, 2]))
        [1, 2]
    """
    pool = ThreadPoolExecutor(workers)
    pending = deque()
    try:
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) > workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)

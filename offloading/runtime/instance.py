"""One emulated instance of a function: reads events from its input, writes replies.

``python -m offloading.runtime.instance`` imports the handler and loads the model, as a platform
does before the first event, and says how long each took. Then every line that it reads is an
event, and every line that it writes a reply with the time that the handler took.
"""

import json
import sys
import time

BEGAN = time.perf_counter()  # before anything heavy is imported


def main() -> int:
    """Answer events until the input ends."""
    from offloading.runtime import function

    imported = time.perf_counter()
    function.loaded()
    loaded = time.perf_counter()
    _say({"import_ms": (imported - BEGAN) * 1000, "load_ms": (loaded - imported) * 1000})
    for line in sys.stdin:
        event = json.loads(line)
        began = time.perf_counter()
        reply = function.handler(event, None)
        _say({"reply": reply, "handler_ms": (time.perf_counter() - began) * 1000})
    return 0


def _say(document: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())

"""How much memory a process has, where the system says so."""

from pathlib import Path

import pytest


def resident_mib(pid="self", field="VmRSS"):
    """Resident memory now, or its largest (``VmHWM``) since `forget_peak`."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("this system does not say how much memory a process has")
    (line,) = [line for line in status.read_text().splitlines() if line.startswith(field)]
    return int(line.split()[1]) / 1024


def forget_peak(pid="self"):
    """Let the largest resident memory be that of now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")

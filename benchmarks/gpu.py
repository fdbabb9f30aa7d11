"""All that one GPU is asked, in one command of nine minutes: docs/gpu.md says what comes of it.

    python benchmarks/gpu.py                         # on the GPU; gpu.json and gpu.md in this folder
    python benchmarks/gpu.py --device cpu --smoke    # every part, as small as can be, in about a minute

tests       the tests of lanes, and those that need CUDA, on the device
lanes       model-epochs a second of L lanes against the solo trainer in a loop, for kinds of models
processes   the same of solo trainers in 1, 2, 4, 8 processes on the device
exploit     what a copy of a donor costs, and a lane that comes

It needs torch, torchvision, scikit-learn, safetensors, pandas and pytest; not Ray. After every row both files are
whole: a run that is cut short has what it found. Each part has a share of the time, and what one leaves is the next
one's; what there is no time for is skipped, and says so.
"""

from __future__ import annotations

import time

BEGAN = time.monotonic()

import argparse  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
from dataclasses import dataclass, field  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import TYPE_CHECKING, Any  # noqa: E402

if TYPE_CHECKING:
    from gpu_device import Device, Utilisation
    from gpu_report import Report
    from gpu_time import Clock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported, here and in what is started
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SHARES = {"tests": 0.28, "lanes": 0.44, "processes": 0.2, "exploit": 0.08}
#: For the end: processes are ended, results written.
KEPT_S = 10.0


@dataclass(frozen=True)
class Sizes:
    lanes: tuple[int, ...] = (1, 8, 64, 256, 512)
    processes: tuple[int, ...] = (1, 2, 4, 8)
    exploit: tuple[int, ...] = (64, 256)
    repeats: int = 5


SMALL = Sizes(lanes=(1, 4), processes=(1, 2), exploit=(4,), repeats=1)


@dataclass(frozen=True)
class Run:
    """models, tests: None is all of them. solo: the solo trainer's rates, which `lanes` finds and `processes` reads."""

    report: Report
    device: Device
    busy: Utilisation
    small: bool
    models: list[str] | None
    tests: list[str] | None
    solo: dict[str, float] = field(default_factory=dict)

    def part(self, name: str, clock: Clock) -> None:
        """One of SHARES."""
        from gpu_lanes import exploit, lanes_against_solo
        from gpu_models import MODELS
        from gpu_processes import processes_on_one_device
        from gpu_tests import FEW, FILES, tests_on_the_device

        sizes = SMALL if self.small else Sizes()
        models = self.models or list(MODELS)
        of_all = (self.report, self.device, self.busy, clock, models)
        if name == "tests":
            # There a test waits for launches, so that several get more out of it, where each has a core or two.
            at_once = max(1, min(len(FILES), (os.cpu_count() or 1) // 2)) if self.device.is_gpu else 1
            which = self.tests or (FEW if self.small else FILES)
            tests_on_the_device(self.report, self.device.kind, clock, which, at_once)
        if name == "lanes":
            self.solo.update(lanes_against_solo(*of_all, sizes.lanes, sizes.repeats, self.small))
        if name == "processes":
            processes_on_one_device(*of_all, sizes.processes, self.solo, sizes.repeats, self.small)
        if name == "exploit":
            exploit(self.report, self.device, clock, models[0], sizes.exploit, sizes.repeats, self.small)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--out", default=".", help="the folder of gpu.json and gpu.md (default: this one)")
    parser.add_argument("--minutes", type=float, default=9.0, help="that all of it may take (default: 9)")
    parser.add_argument("--smoke", action="store_true", help="every part with tiny sizes")
    parser.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES), help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "bfloat16"), help="of all that is trained"
    )
    parser.add_argument("--tests", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()

    import torch
    from gpu_device import Device, Utilisation
    from gpu_models import PRECISION
    from gpu_report import Report, described
    from gpu_time import Clock, Ending, Stopped

    from raytune_hpo.training.memory import keep_freed_memory

    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU; --device cpu --smoke tries the program out")
    os.environ[PRECISION] = options.precision  # of the processes, too
    torch.set_num_threads(1)
    keep_freed_memory()  # as lane arrays do; it helps the solo trainer too
    until = BEGAN + 60 * options.minutes
    device = Device(options.device)
    busy = Utilisation(device)
    settings: dict[str, Any] = {"minutes": options.minutes, "smoke": options.smoke, "precision": options.precision}
    settings |= {"utilisation from": busy.source}
    report = Report(Path(options.out), device.facts(), settings, BEGAN)
    run = Run(report, device, busy, options.smoke, options.models, options.tests)
    ending, complete, part = Ending(until - KEPT_S / 2), False, "start"
    try:
        chosen = {name: share for name, share in SHARES.items() if name in options.parts}
        for part, clock in Clock(until - KEPT_S).shared(list(chosen), list(chosen.values())):
            if clock.left_s <= 0:
                report.note(f"{part}: skipped: no time left")
                continue
            began = time.monotonic()
            try:
                run.part(part, clock)
            except Exception as error:
                report.note(f"{part}: ended by {described(error)}")
            report.ended(part, time.monotonic() - began)
        complete = True
    except Stopped as stopped:
        ending.over()
        report.note(f"{stopped}, in {part} after {time.monotonic() - BEGAN:.0f} s")
    finally:
        ending.over()
        busy.end()
        report.finish(complete=complete)
    return ending.exit_code


if __name__ == "__main__":
    sys.exit(main())

"""What a seed means: how many clients, which faults, how often. Each run has only some of the faults, a few have none.

Leaving faults out at random finds more than having all of them always: what hides behind a crash is found in the
runs without crashes (Groce et al., "Swarm Testing", 2012).
"""

from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Plan:
    """Rates are per virtual second, chances per occasion. `alike`: of how many different calls agents choose.
    `lines`: how much they favour tools whose calls run one at a time.

    In `fair` weather nothing fails but the tools: then everything must also be done soon.
    """

    clients: int
    calls_per_client: int
    approvers_pause_s: float
    shuffled: bool
    slots: int
    backoff_s: float
    inline_wait_s: float
    crash_rate: float
    crash_after_commit: float
    crash_after_send: float
    stop_rate: float
    cut_rate: float
    kill_rate: float
    slow_disk: float
    disk_fault: float
    skew_rate: float
    hang: float
    slow: float
    error: float
    vanish: float
    impatient: float
    repeats: float
    meddling: float
    changes: float
    alike: int
    fair: bool
    has_admin: bool
    places: int
    queue: int
    losses_to_open: int
    breaker_pause_s: float
    retries: int
    retries_per_s: float
    answer_within_s: float
    silent: float
    clumsy: float
    intruding: float
    hurry: float
    lines: float


def plan_of(random: Random) -> Plan:
    """Draw a plan."""
    fair = random.random() < 0.08

    def sometimes(often: float, least: float, most: float) -> float:
        return random.uniform(least, most) if random.random() < often else 0.0

    def fault(often: float, least: float, most: float) -> float:
        return 0.0 if fair else sometimes(often, least, most)

    return Plan(
        clients=random.randint(1, 6),
        calls_per_client=random.randint(2, 5),
        approvers_pause_s=random.choice((0.3, 2.0, 10.0)),
        shuffled=random.random() < 0.5,
        slots=512 if fair else random.choice((1, 2, 4, 512)),
        backoff_s=random.choice((0.2, 4.0)),
        inline_wait_s=random.choice((0.05, 0.5, 4.0)),
        crash_rate=fault(0.5, 0.02, 0.4),
        crash_after_commit=fault(0.3, 0.005, 0.05),
        crash_after_send=fault(0.3, 0.02, 0.2),
        stop_rate=fault(0.25, 0.02, 0.2),
        cut_rate=fault(0.5, 0.02, 0.3),
        kill_rate=fault(0.4, 0.02, 0.3),
        slow_disk=fault(0.4, 0.01, 0.3),
        disk_fault=fault(0.35, 0.02, 0.25),
        skew_rate=fault(0.3, 0.05, 0.5),
        hang=sometimes(0.6, 0.05, 0.4),
        slow=sometimes(0.6, 0.1, 0.7),
        error=sometimes(0.6, 0.1, 0.4),
        vanish=fault(0.3, 0.05, 0.3),
        impatient=sometimes(0.7, 0.1, 0.7),
        repeats=sometimes(0.7, 0.1, 0.9),
        meddling=sometimes(0.6, 0.1, 0.6),
        changes=fault(0.5, 0.3, 1.0),
        fair=fair,
        alike=random.choice((1, 2, 4)),
        has_admin=random.random() < 0.6,
        places=128 if fair else random.choice((1, 2, 128)),
        queue=1024 if fair else random.choice((0, 2, 1024)),
        losses_to_open=random.choice((1, 2, 5)),
        breaker_pause_s=random.choice((1.0, 8.0)),
        retries=random.choice((1, 2, 200)),
        retries_per_s=random.choice((0.02, 2.0)),
        answer_within_s=random.choice((10.0, 100.0)),
        silent=random.choice((0.0, 0.2, 0.6)),
        clumsy=sometimes(0.7, 0.2, 1.0),
        intruding=sometimes(0.5, 0.3, 1.0),
        hurry=sometimes(0.4, 0.1, 0.6),
        lines=sometimes(0.3, 1.0, 8.0),
    )

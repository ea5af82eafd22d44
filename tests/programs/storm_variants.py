"""What storms there are: ten variants, each over every backing and with any number of producers or one at a time.

`configure` makes the configuration that tests/programs/storm.py runs; tests/stress/test_storm.py says what may come of it.
"""

from __future__ import annotations

LASTING = {"members": 2, "redeliver": True, "loose": False}
ALL = ["producer", "member", "observer"]
NORMAL = {
    "capacity": 4096,
    "align": 16,
    "producers": "multi",
    "writers": 3,
    "observers": 2,
    "groups": [{"name": "a", **LASTING}, {"name": "b", **LASTING, "loose": True}],
    "ephemeral": 0,
    "doomed": ALL,
    "all_doomed": False,
    "end": "shutdown",
    "gives_up": True,
    "fuses": 0.3,
    "sizes": [200, 1200],
}

VARIANTS = {
    "smallest ring": {"kills": 400},
    "everybody is doomed": {"kills": 400, "all_doomed": True, "end": "phase", "align": 64},
    "nearly always empty": {
        "kills": 320,
        "capacity": 1 << 16,
        "writers": 2,
        "groups": [{"name": "a", **LASTING, "members": 4}],
    },
    "at most once": {
        "kills": 320,
        "capacity": 8192,
        "groups": [{"name": "a", **LASTING, "redeliver": False}, {"name": "b", **LASTING}],
        "all_doomed": True,
    },
    "passing groups": {"kills": 320, "capacity": 16384, "ephemeral": 4, "groups": [{"name": "a", **LASTING}], "end": "phase"},
    "one producer": {"kills": 320, "producers": "single", "writers": 1, "all_doomed": True},
    "one producer at a time": {"kills": 160, "producers": "single", "writers": 2, "all_doomed": True, "end": "phase"},
    "only producers die": {"kills": 160, "doomed": ["producer"]},
    "only members die": {"kills": 160, "doomed": ["member"], "end": "phase", "capacity": 8192},
    "what was begun is sent": {"kills": 160, "doomed": ["member"], "gives_up": False, "capacity": 16384},
}


def configure(variant: str, name: str | None, folder: str, seed: int, **changes) -> dict:
    """The configuration of one storm over the ring of that name or path; None: over one without a name."""
    config = NORMAL | VARIANTS[variant] | {"name": name, "folder": folder, "seed": seed} | changes
    members = sum(group["members"] for group in config["groups"]) + config["ephemeral"]
    others = config["writers"] + config["observers"] + 1  # one that counts
    config["max_participants"] = members + others + 3  # some whose claims wait for a member
    config["max_groups"] = len(config["groups"]) + (config["ephemeral"] + 1) // 2 + 1
    config["rows"] = config["kills"] * 4 + 2000
    return config

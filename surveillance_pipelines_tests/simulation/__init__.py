"""A seeded, deterministic simulator of the live lane (R1): the real engine and shell in a simulated world.

``world.py`` holds what is simulated (time, queues, database, processes) and ``faults.py`` what goes wrong in it;
``schedule.py`` runs one seed; ``invariants.py`` and ``oracle.py`` say what must hold afterwards; ``proof.py`` runs many
seeds, the naive worker and the planted bugs. ``docs/simulation.md`` tells how to use it.
"""

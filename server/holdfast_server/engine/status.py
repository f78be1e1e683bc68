"""How an engine is, for `holdfast doctor` and whoever asks over the admin endpoint."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from holdfast_server.engine.assembly import Assembly
from holdfast_server.mcp.payloads import iso
from holdfast_server.version import VERSION
from holdfast_store.model.values import Json
from holdfast_tools.downstream.gate import GateStatus
from holdfast_tools.downstream.owner import Downstream
from holdfast_tools.downstream.spec import HttpSpec, StdioSpec


async def engine_status(assembly: Assembly, mode: str, connections: int, warnings: Sequence[str]) -> Json:
    """The engine, its downstreams, its catalog and its store, as one JSON object."""
    health = await assembly.store.health()
    return {
        "engine": {
            "pid": os.getpid(),
            "version": VERSION,
            "mode": mode,
            "started_at": iso(assembly.started_at),
            "connections": connections,
            "tasks": len(asyncio.all_tasks()),
            **_process(),
            "config": str(assembly.config.path),
            "config_sha256": assembly.config.digest,
            "config_loaded_at": iso(assembly.in_force.loaded_at),
        },
        "downstreams": [_downstream(name, downstream) for name, downstream in assembly.downstreams.items()],
        "tools": [
            {
                "name": tool.name,
                "canonical": tool.canonical,
                "downstream": tool.downstream,
                "definition_sha256": tool.digest,
                "read_only": tool.annotations.read_only,
                "destructive": tool.annotations.destructive,
                "idempotent": tool.annotations.idempotent,
                "misfits": list(tool.misfits),
            }
            for tool in assembly.catalog.tools()
        ],
        "set_aside": [asdict(entry) for entry in assembly.catalog.set_aside()],
        "store": {**asdict(health), "calls_by_state": {s.value: n for s, n in health.calls_by_state.items()}},
        "warnings": [*assembly.config.warnings, *warnings],
    }


def _process() -> Json:
    """What this process holds of the machine; empty where the system does not tell."""
    if sys.platform != "linux":
        return {}
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "resident_bytes": pages * os.sysconf("SC_PAGE_SIZE"),
        "descriptors": len(os.listdir("/proc/self/fd")),
    }


def _reached_by(transport: StdioSpec | HttpSpec) -> str:
    """The command, or the url without user and query: what may hold a secret is left out."""
    if isinstance(transport, StdioSpec):
        return transport.command
    parts = urlsplit(transport.url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _downstream(name: str, downstream: Downstream) -> Json:
    status = downstream.status
    return {
        "name": name,
        "state": status.state,
        "since": iso(status.since),
        "protocol_version": status.protocol_version,
        "server_name": status.server_name,
        "attempts": status.attempts,
        "reason": status.reason,
        "stderr_tail": list(status.stderr_tail),
        "pid": status.pid,
        "reached_by": _reached_by(downstream.spec.transport),
        **_gate(downstream.gate.status),
    }


def _gate(gate: GateStatus) -> Json:
    """How much may be sent to it: its places, its breaker, its retry budget."""
    return {
        "under_way": gate.under_way,
        "max_concurrency": gate.max_concurrency,
        "queued": gate.queued,
        "in_line": gate.in_line,
        "max_queue": gate.max_queue,
        "breaker": {
            "state": gate.breaker,
            "since": _iso(gate.breaker_since),
            "next_probe_at": _iso(gate.next_probe_at),
            "failures": gate.failures,
            "reason": gate.reason,
        },
        "retries_left": gate.retries_left,
    }


def _iso(moment: float | None) -> str | None:
    return None if moment is None else iso(moment)

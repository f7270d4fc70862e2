"""Runs of other tools, and commands given to them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from trajtree.cli.main import app

SYSTEM = "You help in a shop."


def shop_run(searches: list[str], item: str, score: float) -> dict[str, Any]:
    """A scored ShareGPT run: searches, then a purchase."""
    turns = [{"from": "human", "value": f"{SYSTEM}\nFind a red lamp."}]
    for search in searches:
        turns.append({"from": "gpt", "value": f"Thought: look for {search}\nAction: search[{search}]"})
        turns.append({"from": "human", "value": f"Results for {search}: lamp A, lamp B"})
    turns.append({"from": "gpt", "value": f"Thought: this one\nAction: click[{item}]"})
    return {"conversations": turns, "score": score}


def ticket_run(name: str, tool: str, score: float) -> dict[str, Any]:
    """An ATIF document: one tool call, then an answer."""
    return {
        "schema_version": "ATIF-v1.8",
        "trajectory_id": name,
        "agent": {"name": "helper", "version": "1", "model_name": "small"},
        "steps": [
            {"step_id": 1, "source": "user", "message": "The printer is silent."},
            {
                "step_id": 2,
                "source": "agent",
                "message": "",
                "reasoning_content": "let me see",
                "tool_calls": [{"tool_call_id": "c1", "function_name": tool, "arguments": {"printer": 3}}],
                "observation": {"results": [{"source_call_id": "c1", "content": f"{tool} done"}]},
            },
            {"step_id": 3, "source": "agent", "message": f"I did {tool}."},
        ],
        "extra": {"score": score},
    }


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)


def done(*arguments: str | Path) -> str:
    result = invoke(*arguments)
    assert result.exit_code == 0, result.output
    return result.output

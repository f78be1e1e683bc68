"""`make demo`: the whole story in under a minute, against real servers and a real engine. Every line is checked.

An agent's client talks to Holdfast over stdio, as Claude Desktop would. Behind it stand `mcp-server-git` on a small
repository and the example payments server. The engine is killed with ``kill -9`` twice. Exit code 1 if any line of
the story is not so.
"""

import sys

import anyio
from mcp import Client, MCPError
from mcp_types import CallToolResult
from stage import DemoError, Stage, Story, about, ask_again_when_cut, stage, until, with_key, words

COMMIT_MESSAGE = "Note the invoice"


async def check_arguments(story: Story, place: Stage, agent: Client) -> None:
    story.chapter("Bad arguments are stopped, good calls pass")
    typo = await agent.call_tool("git__git_status", {"repo_pth": str(place.repository)})
    story.check(
        typo.is_error and "- /" in words(typo) and 'did you mean "repo_path"' in words(typo),
        "a typo in an argument is refused, with a pointer and the right name",
        words(typo),
    )
    status = await agent.call_tool("git__git_status", {"repo_path": str(place.repository)})
    story.check(
        not status.is_error and "notes.txt" in words(status),
        "git_status is read-only and passes",
        f"status {about(status)['status']}, attempts {about(status)['attempts']}",
    )
    story.remember("git_status", about(status)["id"])


async def approve_across_a_crash(story: Story, place: Stage, agent: Client) -> None:
    story.chapter("A risky call waits for a person, and outlives the engine")
    asked = {"repo_path": str(place.repository), "message": COMMIT_MESSAGE}
    parked = await agent.call_tool("git__git_commit", asked)
    task = about(parked)["id"]
    story.remember("git_commit", task)
    story.check(
        about(parked)["status"] == "waiting_for_approval" and place.commits(COMMIT_MESSAGE) == 0,
        "git_commit is parked and answered with a handle; nothing was committed",
        words(parked),
    )
    killed = place.kill_engine()
    still = await ask_again_when_cut(agent, "holdfast__get_task", {"task_id": task})
    story.check(
        about(still)["status"] == "waiting_for_approval" and place.engine_pid() not in (None, killed),
        f"kill -9: engine {killed} is gone, engine {place.engine_pid()} took over, and the call still waits",
    )
    waiting = await place.admin("list_approvals")
    (approval,) = waiting["approvals"]
    story.check(
        approval["tool"] == "git__git_commit" and approval["arguments"] == asked,
        "an admin sees what waits, with its arguments",
        f"{approval['tool']} {approval['arguments']['message']!r}, asked by {approval['requester']}",
    )
    approved = await place.admin("approve", approval_id=approval["id"], comment="looks right")
    story.check(approved["approval"]["status"] == "approved", "the admin approves with the approve tool")
    done = await agent.call_tool("holdfast__wait_task", {"task_id": task, "timeout_s": 10})
    story.check(about(done)["status"] == "done", "the agent gets the result", words(done))
    story.check(place.commits(COMMIT_MESSAGE) == 1, "the commit stands in git log exactly once")


async def pay_once_with_a_key(story: Story, place: Stage, agent: Client) -> None:
    story.chapter("A key: sent twice, paid once")
    arguments = {"payment_id": "pay_1", "amount": 20, "currency": "EUR", "reason": "damaged"}
    first = await agent.call_tool("payments__refund", arguments, meta=with_key("order-77-refund"))
    second = await agent.call_tool("payments__refund", arguments, meta=with_key("order-77-refund"))
    story.remember("refund with a key, sent twice", about(first)["id"])
    story.check(
        not first.is_error and about(second)["replayed"] and words(first) == words(second),
        "the second answer is the first one, marked as replayed",
        words(second),
    )
    story.check(place.movements("pay_1", "begin") == 1, "the ledger of the payments server has one refund")
    other = await agent.call_tool("payments__refund", {**arguments, "amount": 30}, meta=with_key("order-77-refund"))
    story.check(
        other.is_error and place.movements("pay_1", "begin") == 1,
        "the same key with another amount is a conflict",
        words(other),
    )


async def lose_an_answer(story: Story, place: Stage, agent: Client) -> bool:
    """Answers whether the admin found that no money moved."""
    story.chapter("Killed in mid-flight: in doubt, not done twice")
    arguments = {"payment_id": "pay_slow_1", "amount": 50, "currency": "EUR"}
    said: list[str] = []

    async def refund() -> None:
        try:
            said.append(words(await agent.call_tool("payments__refund", arguments, meta=with_key("order-78"))))
        except MCPError as error:
            said.append(error.error.message)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(refund)
        await until(lambda: place.movements("pay_slow_1", "begin") == 1, "the slow refund begins")
        place.kill_engine()
    story.check(bool(said), "a slow refund is under way when the engine is killed; the agent is told at once", said[0])
    again = await agent.call_tool("payments__refund", arguments, meta=with_key("order-78"))
    task = about(again)["id"]
    story.remember("refund killed in mid-flight", task)
    story.check(
        about(again)["status"] == "in_doubt" and place.movements("pay_slow_1", "begin") == 1,
        "asking again with the key finds the call in doubt and pays nothing",
        words(again),
    )
    moved = place.movements("pay_slow_1") == 1
    found = "the money moved" if moved else "no money moved"
    resolved = await place.admin(
        "resolve_call",
        call_id=task,
        outcome="done" if moved else "failed",
        reason=f"the ledger has {'a' if moved else 'no'} done line for pay_slow_1",
    )
    story.check(
        resolved["call"]["status"] == ("done" if moved else "failed"),
        f"the admin looks into the ledger, finds that {found}, and resolves the call",
    )
    return not moved


async def retry_blindly(story: Story, place: Stage) -> None:
    story.chapter("A client that times out and blindly retries pays once")
    arguments = {"payment_id": "pay_slow_2", "amount": 10, "currency": "EUR"}
    async with place.agent() as impatient:
        await impatient.list_tools()
        tries = 0
        answer: CallToolResult | None = None
        while answer is None and tries < 10:
            tries += 1
            try:
                answer = await impatient.call_tool("payments__refund", arguments, read_timeout_seconds=1.0)
            except MCPError:
                continue
    story.check(
        answer is not None and tries > 1 and about(answer)["joined"],
        f"no key, a timeout of one second: try {tries} joined the first and got its outcome",
        words(answer) if answer else "",
    )
    story.check(place.movements("pay_slow_2", "begin") == 1, "the ledger has one refund")
    if answer is not None:
        story.remember(f"refund asked for {tries} times", about(answer)["id"])


async def play(story: Story, place: Stage) -> None:
    story.chapter("Holdfast stands before mcp-server-git and a payments server")
    async with place.agent() as agent:
        tools = {tool.name for tool in (await agent.list_tools()).tools}
        story.check(
            {"git__git_commit", "payments__refund", "holdfast__wait_task"} <= tools and "approve" not in tools,
            f"an agent connects over stdio and sees {len(tools)} tools, none of which can approve",
        )
        await check_arguments(story, place, agent)
        await approve_across_a_crash(story, place, agent)
        await pay_once_with_a_key(story, place, agent)
        found_no_money = await lose_an_answer(story, place, agent)
    await retry_blindly(story, place)
    story.chapter("The judge: what the payments server wrote down")
    begun = {payment: place.movements(payment, "begin") for payment in ("pay_1", "pay_slow_1", "pay_slow_2")}
    story.check(set(begun.values()) == {1}, "three refunds were begun, none of them twice")
    story.check(
        [place.movements(payment) for payment in begun] == [1, 0 if found_no_money else 1, 1],
        "and the admin was right about the one in doubt",
    )
    story.chapter("What happened, from the journal")
    for call_id, title in story.calls.items():
        shown = place.command("calls", "show", str(place.config), call_id)
        story.check(call_id in shown, title, shown.split("\n\n")[-1])


def main() -> int:
    story = Story()
    with stage() as place:
        try:
            anyio.run(play, story, place)
        except KeyboardInterrupt:
            print("\ninterrupted; what was started is being ended", file=sys.stderr)
            return 130
        except BaseExceptionGroup as group:
            expected, others = group.split((DemoError, MCPError))
            if expected is None or others is not None:
                raise
            return tell_failure(place, expected)
        except (DemoError, MCPError) as error:
            return tell_failure(place, error)
    print(f"\nAll of it is so. It took {story.elapsed_s:.0f} s.")
    return 0


def tell_failure(place: Stage, error: BaseException) -> int:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    print(f"\nNot so: {error}\nThe engine's log ends with:\n{place.engine_log()}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

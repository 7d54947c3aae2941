"""Shared by the tests of deadlines: options with every timeout off, and time that passes."""

AGES_S = 100_000.0
OFF = {
    "timeout_first_byte": None,
    "timeout_request_head": None,
    "timeout_request_body": None,
    "timeout_response_stall": None,
    "timeout_request": None,
    "timeout_keep_alive": None,
}


def only(**options):
    """Every timeout off but these."""
    return {**OFF, **options}


async def ages(bench):
    await bench.pass_time(AGES_S, step_s=1000.0)


async def ends_after(bench, peer, seconds, *, before=None):
    """The connection lives until `seconds` have passed and ends within one tick and a half of them."""
    tick_s = bench.runtime.tick_interval_s
    assert 0 < tick_s <= 1.0
    await bench.pass_time(seconds - 0.01)
    assert peer.state == "open", f"ended early; {peer.output[:200]!r}"
    if before is not None:
        before()
    await bench.pass_time(0.01 + 1.5 * tick_s)
    assert peer.state != "open", f"still open {seconds} s later"

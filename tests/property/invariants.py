"""The laws of the planner, each a function with a name that says it. State machines and scenarios share them."""

from __future__ import annotations

import random

from tests.property.world import START, Step, World, states_by_name

from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.actions import Create, Delete, Drain
from lobby_operator.planner.history import observe
from lobby_operator.planner.plan import plan
from lobby_operator.planner.reasons import ACTION_REASONS, ActionReason
from lobby_operator.planner.state import Phase
from lobby_operator.planner.timers import due


def never_more_than_the_maximum(step: Step) -> None:
    """What is made never brings the lobbies that there are (in truth, not as observed) above maxReplicas."""
    created = sum(isinstance(action, Create) for action in step.plan.actions)
    if created:
        names = {lobby.name for lobby in step.world.running()}
        new = {action.name for action in step.plan.actions if isinstance(action, Create)}
        assert len(names | new) <= step.spec.max_replicas


def clients_are_never_cut_off_before_their_drain_ended(step: Step) -> None:
    """A lobby that works is deleted only when it refuses clients and has none, or when its drain is overdue."""
    seen = states_by_name(step.seen)
    for action in step.plan.actions:
        if not isinstance(action, Delete):
            continue
        lobby = step.world.lobbies.get(action.name)
        if lobby is None or not lobby.answers(step.now) or lobby.gone_at is not None:
            continue
        since = seen[action.name].draining_since
        overdue = since is not None and due(since, step.spec.drain_seconds, step.now)
        pointless = action.reason.code is ActionReason.DRAIN_POINTLESS and nobody_finds_another_seat(step)
        assert overdue or pointless or (lobby.draining and lobby.clients == 0)


def nobody_finds_another_seat(step: Step) -> bool:
    """There are as many lobbies as may be, and none of them has a free seat, or could have one soon."""
    there = [lobby for lobby in step.seen.lobbies if lobby.phase is not Phase.ENDED]
    free = any(lobby.phase is Phase.READY and lobby.free for lobby in there)
    waits = all(lobby.phase in (Phase.READY, Phase.DRAINING) for lobby in there)
    return len(there) >= step.spec.max_replicas and waits and not free


def nobody_is_sent_where_no_seat_is(step: Step) -> None:
    """Open lobbies answered at the last question, have free seats, and are not about to go."""
    leaving = {action.name for action in step.plan.actions if not isinstance(action, Create)}
    seen = states_by_name(step.seen)
    raw = {each.name: each for each in step.raw}
    for lobby in step.plan.open:
        assert lobby.name not in leaving
        assert raw[lobby.name].unresponsive_since is None
        assert seen[lobby.name].phase is Phase.READY
        assert lobby.free > 0
        assert lobby.address
    assert len({lobby.name for lobby in step.plan.open}) == len(step.plan.open)


def open_lobbies_are_in_the_order_of_their_placement(step: Step) -> None:
    """Packed: fullest first. Latest: at most the first has clients, unless only older ones have seats."""
    clients = [lobby.clients for lobby in step.plan.open]
    outdated = [lobby.outdated for lobby in step.plan.open]
    assert all(outdated) or not any(outdated)
    if any(outdated) or step.spec.placement is Placement.PACKED:
        assert clients == sorted(clients, reverse=True)
    elif step.plan.open and not any(clients[1:]):
        return
    elif step.plan.open:
        ages = [(lobby.ready_at, lobby.index) for lobby in step.plan.open]
        assert ages == sorted(ages, reverse=True)


def every_action_has_its_reason(step: Step) -> None:
    """A sentence with numbers, and at most one action for a lobby, which exists, or does not for those that are made."""
    names = {lobby.name for lobby in step.seen.lobbies}
    for action in step.plan.actions:
        assert action.reason.code in ACTION_REASONS
        assert action.reason.sentence
        assert "{" not in action.reason.sentence
        assert (action.name in names) is not isinstance(action, Create)
    assert len({action.name for action in step.plan.actions}) == len(step.plan.actions)


def creations_are_bounded(step: Step) -> None:
    """Not too many start at a time, and only one while starts fail."""
    created = sum(isinstance(action, Create) for action in step.plan.actions)
    if created:
        starting = len(step.seen.in_phase(Phase.STARTING))
        most = 1 if step.seen.failures.count else step.settings.max_starting
        assert created + starting <= max(most, starting)


def moved_clients_fit_into_fuller_lobbies(step: Step) -> None:
    """Compaction leaves seats for all whom it moves, for those who wait or move already, and to spare."""
    drained = {action.name for action in step.plan.actions if action.reason.code is ActionReason.SPARSE}
    if not drained:
        return
    assert step.seen.waiting == 0
    assert not step.seen.in_phase(Phase.STARTING, Phase.UNRESPONSIVE)
    ready = step.seen.in_phase(Phase.READY)
    leaving = [lobby for lobby in ready if lobby.name in drained]
    staying = [lobby for lobby in ready if lobby.name not in drained]
    moving = sum(lobby.clients for lobby in leaving)
    moving += sum(lobby.clients for lobby in step.seen.in_phase(Phase.DRAINING, Phase.ENDING))
    assert sum(lobby.free for lobby in staying) >= moving + step.spec.spare
    assert len(staying) >= step.spec.floor
    fullest = max(lobby.clients for lobby in staying)
    assert all(0 < lobby.clients <= fullest for lobby in leaving)
    if step.spec.placement is Placement.PACKED:
        occupied = [lobby.clients for lobby in staying if lobby.clients]
        assert max(lobby.clients for lobby in leaving) <= min(occupied)


def the_plan_depends_on_nothing_else(step: Step) -> None:
    """Same input, same plan; the order in which lobbies are listed does not matter."""
    raw = list(step.raw)
    random.Random(len(raw)).shuffle(raw)
    seen = observe(step.before, raw, waiting=step.seen.waiting, spec=step.spec, now=step.now, settings=step.settings)
    assert seen == step.seen
    assert plan(step.spec, seen, step.now, step.settings) == step.plan


def nothing_changes_before_the_planner_asks_to_be_woken(step: Step) -> None:
    """With the same readings, a plan without actions stays one until wake_at."""
    if step.plan.actions:
        return
    until = step.plan.wake_at
    assert until is None or until > step.now
    horizon = (
        step.now + 15.0 if until is None else until
    )  # short of a pause, after which the silent get their time again
    seen = step.seen
    for share in (0.25, 0.5, 0.999):
        now = min(step.now + 15.0, step.now + (horizon - step.now) * share)
        if until is not None and now > until - 1e-6:
            continue
        seen = observe(seen, step.raw, waiting=seen.waiting, spec=step.spec, now=now, settings=step.settings)
        again = plan(step.spec, seen, now, step.settings)
        assert again.actions == ()
        assert [lobby.name for lobby in again.open] == [lobby.name for lobby in step.plan.open]


STEP_LAWS = (
    never_more_than_the_maximum,
    clients_are_never_cut_off_before_their_drain_ended,
    nobody_is_sent_where_no_seat_is,
    open_lobbies_are_in_the_order_of_their_placement,
    every_action_has_its_reason,
    creations_are_bounded,
    moved_clients_fit_into_fuller_lobbies,
    the_plan_depends_on_nothing_else,
    nothing_changes_before_the_planner_asks_to_be_woken,
)
"""Of every single plan."""


def those_who_wait_are_served_or_nothing_more_can_be_done(world: World) -> None:
    """In the end a client waits only where maxReplicas lobbies are full."""
    if world.waiting:
        running = world.running()
        assert len(running) == world.spec.max_replicas
        assert all(lobby.clients >= lobby.seats for lobby in running)


def there_are_as_many_lobbies_as_are_needed(world: World) -> None:
    """At least the floor and the spare seats; with Packed and lobbies of one size exactly the fewest possible."""
    spec = world.spec
    running = world.running()
    assert len(running) <= spec.max_replicas
    assert len(running) >= spec.floor
    assert not any(lobby.draining or lobby.gone_at is not None for lobby in running)
    if len(running) < spec.max_replicas and spec.placement is Placement.PACKED:
        free = sum(max(0, lobby.seats - lobby.clients) for lobby in running)
        assert free >= spec.spare
    if spec.placement is Placement.PACKED and spec.compaction and world.uniform():
        fewest = -(-(world.clients() + spec.spare) // spec.seats)
        assert len(running) == min(spec.max_replicas, max(spec.floor, fewest))


def every_lobby_is_of_the_revision_that_is_wanted(world: World) -> None:
    """A rollout reaches everybody, with or without room for a surge."""
    if world.spec.revision:
        assert {lobby.revision for lobby in world.running()} <= {world.spec.revision}


def nothing_is_made_and_unmade(world: World, since: int) -> None:
    """In peace no lobby that was made is drained or deleted again."""
    made = {action.name for _, action in world.history[since:] if isinstance(action, Create)}
    unmade = {action.name for _, action in world.history[since:] if isinstance(action, Drain | Delete)}
    assert not made & unmade


def new_clients_alone_move_nobody(world: World, moved: int, *, uniform: bool) -> None:
    """Where lobbies were of one size, and packed; elsewhere everybody is moved once at the most."""
    assert moved <= world.clients()
    if world.spec.placement is Placement.PACKED and uniform:
        assert moved == 0


def the_end_is_the_end(world: World) -> None:
    """Nothing happens in the hours after, though the lobby host looks again and again."""
    done = len(world.history)
    for seconds in (0.1, 1.0, 7.0, 61.0, 3600.0, 86400.0):
        world.advance(seconds)
        world.step()
    assert len(world.history) == done
    assert world.now > START

"""The laws of the planner, each a function named after the law. State machines and scenarios share them."""

from __future__ import annotations

import random

from tests.property.world import START, Step, World, states_by_name

from lobby_gateway.process.seat_reports import OriginState
from lobby_gateway.resource.spec import Placement
from lobby_operator.planner.actions import Create, Delete, Drain
from lobby_operator.planner.history import observe
from lobby_operator.planner.origin_stream import has_stream
from lobby_operator.planner.placement import measure_capacity
from lobby_operator.planner.plan import plan
from lobby_operator.planner.reasons import ACTION_REASONS, SCALING_BACKOFF, SCALING_UNREACHABLE, ActionReason
from lobby_operator.planner.state import Phase, lobby_index
from lobby_operator.planner.timers import due


def lobbies_never_exceed_max_replicas(step: Step) -> None:
    """Creating lobbies never brings their number (in truth, not as observed) above maxReplicas."""
    created = sum(isinstance(action, Create) for action in step.plan.actions)
    if created:
        names = {lobby.name for lobby in step.world.running()}
        new = {action.name for action in step.plan.actions if isinstance(action, Create)}
        assert len(names | new) <= step.spec.max_replicas


def no_client_is_disconnected_before_the_drain_ends(step: Step) -> None:
    """A working lobby is deleted only when it refuses clients and has none, or when its drain is overdue."""
    states = states_by_name(step.observed)
    for action in step.plan.actions:
        if not isinstance(action, Delete):
            continue
        lobby = step.world.lobbies.get(action.name)
        if lobby is None or not lobby.answers(step.now) or lobby.gone_at is not None:
            continue
        since = states[action.name].draining_since
        overdue = since is not None and due(since, step.spec.drain_seconds, step.now)
        if action.reason.code in (ActionReason.NEVER_ANSWERED, ActionReason.NEVER_NEEDED) and lobby.report is None:
            assert lobby.clients == 0  # no greeter knows it
            continue
        pointless = action.reason.code is ActionReason.DRAIN_POINTLESS and no_other_seat_is_available(step)
        assert overdue or pointless or (lobby.draining and lobby.clients == 0)


def no_other_seat_is_available(step: Step) -> bool:
    """maxReplicas lobbies exist, and none of them has a free seat, or could soon have one."""
    there = [lobby for lobby in step.observed.lobbies if lobby.phase is not Phase.ENDED]
    free = any(lobby.phase is Phase.READY and lobby.free for lobby in there)
    waits = all(lobby.phase in (Phase.READY, Phase.DRAINING) for lobby in there)
    return len(there) >= step.spec.max_replicas and waits and not free


def what_the_platform_holds_is_left_alone(step: Step) -> None:
    """A lobby whose process is not started yet is deleted only because its revision is outdated, or because it drains."""
    states = states_by_name(step.observed)
    for action in step.plan.actions:
        if isinstance(action, Delete) and states[action.name].held is not None:
            state = states[action.name]
            assert state.outdated or state.draining_since is not None or state.phase is Phase.ENDED


def no_name_of_others_is_used(step: Step) -> None:
    """Lobbies are created under free names only."""
    for action in step.plan.actions:
        if isinstance(action, Create):
            assert lobby_index(action.name) not in step.world.taken


def clients_are_sent_only_to_free_seats(step: Step) -> None:
    """Open lobbies answered the latest poll or are healthy, have free seats, and are not about to leave."""
    leaving = {action.name for action in step.plan.actions if isinstance(action, Drain | Delete)}
    states = states_by_name(step.observed)
    readings = {each.name: each for each in step.readings}
    for lobby in step.plan.open:
        assert lobby.name not in leaving
        assert readings[lobby.name].unresponsive_since is None or readings[lobby.name].alive
        assert readings[lobby.name].report is not None
        assert states[lobby.name].phase is Phase.READY
        assert lobby.free > 0
        assert lobby.address
    assert len({lobby.name for lobby in step.plan.open}) == len(step.plan.open)


def open_lobbies_are_in_placement_order(step: Step) -> None:
    """Packed: fullest first. Latest: only the first may have clients, unless only older lobbies have seats."""
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


def every_action_has_a_reason(step: Step) -> None:
    """A sentence with numbers; at most one action for a lobby, which exists unless it is created."""
    names = {lobby.name for lobby in step.observed.lobbies}
    for action in step.plan.actions:
        assert action.reason.code in ACTION_REASONS
        assert action.reason.sentence
        assert "{" not in action.reason.sentence
        assert (action.name in names) is not isinstance(action, Create)
    assert len({action.name for action in step.plan.actions}) == len(step.plan.actions)


def creations_are_bounded(step: Step) -> None:
    """Not too many lobbies start at a time; while starts fail only one, or a few for clients whose lobby is gone.

    Those that live but have been silent for long start no more.
    """
    created = sum(isinstance(action, Create) for action in step.plan.actions)
    if created:
        late = step.settings.lost_start_share * step.spec.lost_seconds if step.observed.lost else float("inf")
        starting = sum(
            not due(lobby.created_at, late, step.now)
            if lobby.unheard_since is None
            else not due(lobby.unheard_since, step.settings.unheard_seconds, step.now)
            for lobby in step.observed.in_phase(Phase.STARTING)
        )
        few = step.settings.lost_starting if step.observed.lost else 1
        most = few if step.observed.failures.count else step.settings.max_starting
        assert created + starting <= max(most, starting)


def silence_of_living_lobbies_is_named(step: Step) -> None:
    """A condition says so if, and only if, the platform has long called a lobby healthy that does not answer."""
    silent = [
        lobby
        for lobby in step.observed.lobbies
        for since in (lobby.unheard_since, lobby.unreachable_since)
        if since is not None and due(since, step.settings.unheard_seconds, step.now)
    ]
    assert bool(silent) is (step.plan.scaling.reason is SCALING_UNREACHABLE)


def the_backoff_is_short_for_clients_whose_lobby_is_gone(step: Step) -> None:
    """However many starts have failed, the next one is long before greeters give up clients that had a seat."""
    trying = step.observed.in_phase(Phase.STARTING) or any(isinstance(each, Create) for each in step.plan.actions)
    room = sum(each.phase is not Phase.ENDED for each in step.observed.lobbies) < step.spec.max_replicas
    if step.world.lost and step.plan.scaling.reason is SCALING_BACKOFF and not trying and room:
        assert step.now - step.observed.failures.last_at < step.spec.lost_seconds / 10
        assert step.plan.wake_at is not None
        assert step.plan.wake_at - step.observed.failures.last_at <= step.spec.lost_seconds / 10


def a_rollout_keeps_the_stream(step: Step) -> None:
    """No lobby that has the stream is replaced before a new one has it, and clients are sent only where it is.

    Unless no new one can be tried: maxReplicas exist, and none of them is new.
    """
    outdated = {lobby.name for lobby in step.observed.lobbies if lobby.outdated}
    streaming = {
        each.name
        for each in step.readings
        if each.report is not None and each.report.origin.state is OriginState.CONNECTED and not each.ended
    }
    living = [lobby for lobby in step.observed.lobbies if lobby.phase not in (Phase.ENDING, Phase.ENDED)]
    new = {lobby.name for lobby in living if not lobby.outdated and lobby.phase is not Phase.DRAINING}
    for action in step.plan.actions:
        rolls = action.reason.code is ActionReason.OUTDATED
        if rolls and action.name in streaming and not new & streaming:
            states = states_by_name(step.observed)
            alone = not states[action.name].clients and not new
            assert alone or (not new and len(living) >= step.spec.max_replicas)
    leaving = {action.name for action in step.plan.actions if isinstance(action, Drain | Delete)}
    if any(
        lobby.free and lobby.phase is Phase.READY and lobby.name in (outdated & streaming) - leaving for lobby in living
    ):
        assert {lobby.name for lobby in step.plan.open if not lobby.outdated} <= _with_stream(step)


def _with_stream(step: Step) -> set[str]:
    """Those that have it, or had it until a moment ago."""
    return {lobby.name for lobby in step.observed.lobbies if has_stream(lobby, step.settings, step.now)}


def moved_clients_fit_into_fuller_lobbies(step: Step) -> None:
    """Compaction leaves seats for all clients that it moves, for those that wait or move already, and to spare."""
    drained = {action.name for action in step.plan.actions if action.reason.code is ActionReason.SPARSE}
    if not drained:
        return
    assert step.observed.waiting == 0
    assert not step.observed.in_phase(Phase.STARTING, Phase.UNRESPONSIVE)
    ready = step.observed.in_phase(Phase.READY)
    leaving = [lobby for lobby in ready if lobby.name in drained]
    staying = [lobby for lobby in ready if lobby.name not in drained]
    moving = sum(lobby.clients for lobby in leaving)
    moving += sum(lobby.clients for lobby in step.observed.in_phase(Phase.DRAINING, Phase.ENDING))
    assert sum(lobby.free for lobby in staying) >= moving + step.spec.spare
    assert len(staying) >= step.spec.min_replicas
    fullest = max(lobby.clients for lobby in staying)
    assert all(0 < lobby.clients <= fullest for lobby in leaving)
    if step.spec.placement is Placement.PACKED:
        occupied = [lobby.clients for lobby in staying if lobby.clients]
        assert max(lobby.clients for lobby in leaving) <= min(occupied)


def the_plan_depends_on_its_input_alone(step: Step) -> None:
    """The same input gives the same plan; the order of lobbies does not matter."""
    readings = list(step.readings)
    random.Random(len(readings)).shuffle(readings)
    observed, capacity = observe(
        step.before,
        readings,
        waiting=step.observed.waiting,
        lost=step.observed.lost,
        taken=step.observed.taken,
        spec=step.spec,
        now=step.now,
        settings=step.settings,
    )
    assert observed == step.observed
    assert capacity == measure_capacity(step.spec, observed, step.settings)
    assert plan(step.spec, observed, step.now, step.settings) == step.plan


def nothing_changes_before_wake_at(step: Step) -> None:
    """With the same readings, a plan without actions stays one until wake_at."""
    if step.plan.actions:
        return
    until = step.plan.wake_at
    assert until is None or until > step.now
    horizon = (
        step.now + 15.0 if until is None else until
    )  # shorter than a pause, after which unresponsive lobbies get their time again
    observed = step.observed
    for share in (0.25, 0.5, 0.999):
        now = min(step.now + 15.0, step.now + (horizon - step.now) * share)
        if until is not None and now > until - 1e-6:
            continue
        observed, capacity = observe(
            observed,
            step.readings,
            waiting=observed.waiting,
            lost=observed.lost,
            taken=observed.taken,
            spec=step.spec,
            now=now,
            settings=step.settings,
        )
        again = plan(step.spec, observed, now, step.settings, capacity=capacity)
        assert again.actions == ()
        assert [lobby.name for lobby in again.open] == [lobby.name for lobby in step.plan.open]


STEP_LAWS = (
    what_the_platform_holds_is_left_alone,
    no_name_of_others_is_used,
    lobbies_never_exceed_max_replicas,
    no_client_is_disconnected_before_the_drain_ends,
    clients_are_sent_only_to_free_seats,
    open_lobbies_are_in_placement_order,
    every_action_has_a_reason,
    creations_are_bounded,
    silence_of_living_lobbies_is_named,
    the_backoff_is_short_for_clients_whose_lobby_is_gone,
    a_rollout_keeps_the_stream,
    moved_clients_fit_into_fuller_lobbies,
    the_plan_depends_on_its_input_alone,
    nothing_changes_before_wake_at,
)
"""Laws of every single plan."""


def waiting_clients_are_served_unless_all_lobbies_are_full(world: World) -> None:
    """Eventually, a client waits only if maxReplicas lobbies are full."""
    if world.waiting:
        running = world.running()
        assert len(running) == world.spec.max_replicas
        assert all(lobby.clients >= lobby.seats for lobby in running)


def there_are_as_many_lobbies_as_needed(world: World) -> None:
    """At least the minimum and the spare seats; with Packed and lobbies of one size exactly the minimum."""
    spec = world.spec
    running = world.running()
    assert len(running) <= spec.max_replicas
    assert len(running) >= spec.min_replicas
    assert not any(lobby.draining or lobby.gone_at is not None for lobby in running)
    if len(running) < spec.max_replicas and spec.placement is Placement.PACKED:
        free = sum(max(0, lobby.seats - lobby.clients) for lobby in running)
        assert free >= spec.spare
    if spec.placement is Placement.PACKED and spec.compaction and world.uniform():
        fewest = -(-(world.clients() + spec.spare) // spec.seats)
        assert len(running) == min(spec.max_replicas, max(spec.min_replicas, fewest))


def at_most_one_lobby_is_surplus(world: World) -> None:
    """Without an answer of any lobby there are as many as clients wait for, and one more in case one is broken."""
    spec = world.spec
    needed = max(spec.min_replicas, -(-(world.waiting + spec.spare) // spec.seats))
    assert len(world.running()) <= needed + 1


def every_lobby_has_the_current_revision(world: World) -> None:
    """A rollout reaches every lobby, with or without room for a surge."""
    if world.spec.revision:
        assert {lobby.revision for lobby in world.running()} <= {world.spec.revision}


def no_lobby_is_created_and_removed_again(world: World, since: int) -> None:
    """When nothing else changes, no lobby that was created is drained or deleted again."""
    made = {action.name for _, action in world.history[since:] if isinstance(action, Create)}
    unmade = {action.name for _, action in world.history[since:] if isinstance(action, Drain | Delete)}
    assert not made & unmade


def new_clients_alone_move_no_one(world: World, moved: int, *, uniform: bool) -> None:
    """With Packed and lobbies of one size; otherwise each client moves at most once."""
    assert moved <= world.clients()
    if world.spec.placement is Placement.PACKED and uniform:
        assert moved == 0


def clients_are_moved_seldom(world: World) -> None:
    """While clients only come and go: each at most once per stabilizationSeconds, and on average at most twice in all."""
    assert world.shortest_stay >= world.spec.stabilization_seconds
    assert world.moved <= 2 * world.joined


def the_settled_state_is_stable(world: World) -> None:
    """Nothing happens in the following hours, however often the operator reconciles."""
    done = len(world.history)
    for seconds in (0.1, 1.0, 7.0, 61.0, 3600.0, 86400.0):
        world.advance(seconds)
        world.step()
    assert len(world.history) == done
    assert world.now > START

"""What the extension asks of a server, line by line, and the tests that hold us to it."""

import re
from pathlib import Path

PROMISES = """
capability: both keys in both handshakes
    test_both_places_of_both_handshakes_say_it
capability: no client need declare it
    test_every_version_is_told_the_types_and_polls
capability: the list never changes, and says so
    test_both_places_of_both_handshakes_say_it
base: every result is complete
    test_each_answer_rides_on_its_status
    test_subscribing_and_unsubscribing_answer_complete
base: headers equal the body; Mcp-Name is ignored
    test_a_method_header_that_differs_is_refused
    test_a_name_header_is_not_asked_for_and_not_looked_at
base: 404 unknown method, 400 bad params, else 200
    test_each_answer_rides_on_its_status
list: names, schemas, modes
    test_every_version_is_told_the_types_and_polls
    test_what_is_told_has_the_shape_and_the_id_that_were_promised
list: webhook only where it can be kept
    test_over_stdio_there_are_poll_and_push_and_no_webhooks
list: push not where leaving is not noticed
    test_every_version_is_told_the_types_and_polls
    test_streaming_is_refused_where_a_client_that_left_is_not_noticed
event: one id on every path and on every attempt
    test_an_endpoint_proves_itself_and_is_then_told_signed
    test_a_stream_begins_again_after_the_last_cursor_and_poll_tells_the_same
event: a wake-up again is another event
    test_an_occurrence_that_falls_due_again_is_a_new_event
    test_an_item_whose_lease_lapsed_is_due_again_under_another_id
event: shape, offset, no `type`
    test_what_is_told_has_the_shape_and_the_id_that_were_promised
event: small, and says what was left out
    test_data_stays_small_and_says_what_was_left_out
event: text of people is marked
    test_an_occurrence_is_told_with_its_own_id_and_how_to_acknowledge_it
poll: null begins now
    test_every_version_is_told_the_types_and_polls
poll: maxEvents, hasMore, nextPollMs
    test_a_batch_is_cut_at_max_events_and_goes_on_from_its_cursor
    test_an_occurrence_is_told_with_its_own_id_and_how_to_acknowledge_it
poll: no state; the same after a restart
    test_a_cursor_replays_the_same_after_a_restart
poll: a gap is told, never an error
    test_a_cursor_of_nobody_is_a_gap_and_no_error
    test_a_cursor_older_than_what_is_kept_goes_on_from_the_oldest_and_says_so
poll: what is out of reach is an error or silent
    test_an_event_that_moved_out_of_reach_is_not_replayed
    test_a_mistake_is_told_by_name_with_typed_data
stream: a mistake is a plain error
    test_a_mistake_is_a_plain_error_and_no_stream
stream: active first, id of the same type throughout
    test_a_stream_says_that_it_is_active_and_tells_each_event_under_its_request_id
stream: heartbeat, and its cursor moves
    test_a_quiet_stream_sends_heartbeats_whose_cursor_moves
stream: another active for a gap in between
    test_a_gap_in_mid_stream_is_another_active_from_before_what_follows
stream: terminated
    test_a_revoked_token_s_stream_is_terminated
    test_a_stream_of_one_event_is_terminated_when_the_event_is_out_of_reach
stream: a closing result at a server's own end
    test_a_stream_says_that_it_is_active_and_tells_each_event_under_its_request_id
stream: cancelled means freed, and no answer
    test_two_streams_on_one_pipe_are_told_apart_and_one_is_cancelled
    test_many_streams_may_be_open_beside_listen_streams_up_to_the_limit_of_subscriptions
webhook: a principal is needed
    test_without_a_principal_there_is_nothing
webhook: secrets
    test_a_secret_that_is_none_is_refused_before_anybody_is_called
    test_an_unpadded_secret_is_as_good
webhook: the key, and its id
    test_a_key_is_of_url_type_and_arguments_however_they_are_written
    test_a_refresh_challenges_nobody_again_and_keeps_id_and_position
webhook: the principal is in the key
    test_a_subscription_is_its_principals_and_nobody_elses
    test_a_renewed_token_of_the_same_rights_holds_the_same_subscriptions
webhook: the URL, byte for byte
    test_the_url_is_called_byte_for_byte
webhook: a refresh rotates, renews, reactivates
    test_while_a_secret_rotates_both_sign
    test_a_refresh_asks_a_failing_endpoint_again_at_once
webhook: a refresh's cursor changes nothing
    test_a_refresh_challenges_nobody_again_and_keeps_id_and_position
webhook: a lapsed one begins at the cursor given
    test_a_lapsed_subscription_begins_where_its_client_stood_and_says_if_that_is_gone
webhook: maxAgeMs at a start
    test_what_is_older_than_was_asked_for_is_left_out_at_a_new_start
webhook: modes
    test_other_modes_are_unsupported
    test_a_subscription_without_a_mode_is_a_webhook
    test_unsubscribing_ignores_the_mode
webhook: a quota before anything
    test_a_quota_is_told_before_anybody_is_called
ttl: clamped, never refused, always finite
    test_a_grant_is_clamped_never_refused
    test_a_grant_ends_with_the_token_that_asked
ttl: kept across restarts
    test_a_subscription_outlives_a_kill_and_what_fell_due_meanwhile_is_told
ttl: at its end all goes
    test_at_its_end_delivery_stops_and_url_and_secret_go
unsubscribe: again, lapsed, never held
    test_unsubscribing_ends_it_may_be_said_again_and_is_an_error_for_what_was_never_held
    test_a_key_is_remembered_for_a_day_after_its_end_and_then_unknown
unsubscribe: though the event is gone
    test_unsubscribing_from_an_event_that_was_deleted_meanwhile_is_no_mistake
delivery: headers and signature
    test_an_endpoint_proves_itself_and_is_then_told_signed
delivery: a fresh stamp per attempt, the same id
    test_a_refused_delivery_is_tried_again_soon_with_the_same_id_and_in_order
    test_an_id_per_message_stays_the_same_on_every_attempt
delivery: soon once more
    test_a_receiver_still_storing_its_subscription_is_asked_again_after_a_second
delivery: bounded
    test_what_is_never_accepted_is_given_up_within_a_quarter_of_an_hour_and_the_next_is_told
delivery: 410 and 413 end that delivery alone
    test_gone_ends_one_delivery_and_not_the_subscription
delivery: a redirect is not followed
    test_a_redirect_is_a_failed_attempt
delivery: the cursor is a watermark
    test_the_cursor_of_a_delivery_is_never_past_one_that_was_not_accepted
delivery: once, whatever nodes there are
    test_two_nodes_deliver_once
    test_a_node_that_died_costs_a_repetition_at_most
control: gap
    test_what_retention_took_is_told_as_a_gap_and_then_it_goes_on
control: terminated
    test_a_terminated_envelope_is_signed_named_and_said_once
proof: signed, single use, an echo in a 2xx
    test_each_challenge_is_another_and_signed
    test_only_an_echo_in_an_answer_of_success_is_a_proof
proof: kept for a day per principal and URL
    test_a_proof_lasts_a_day
    test_a_refresh_challenges_nobody_again_and_keeps_id_and_position
proof: reasons
    test_an_endpoint_that_says_nothing_speaks_no_tls_or_is_not_there_is_told_so
    test_an_endpoint_that_does_not_echo_gets_nothing
proof: not without end at one host
    test_nobody_is_made_to_challenge_one_host_without_end
security: https, public addresses, no oracle
    test_private_addresses_get_not_a_byte_and_look_dead
    test_a_development_origin_lifts_nothing_but_itself
security: access is looked at before each delivery
    test_a_revoked_token_s_subscription_is_terminated
    test_losing_the_one_event_asked_for_ends_the_subscription
    test_nobody_is_told_of_another_s_event
security: secrets at rest, in logs, in answers
    test_no_secret_is_at_rest_in_the_open_or_told
    test_neither_secret_nor_path_is_logged
cursors: of nobody, of another journal, too old
    test_a_cursor_of_nobody_is_a_gap_and_no_error
    test_a_cursor_of_another_journal_begins_now
    test_a_cursor_older_than_what_is_kept_goes_on_from_the_oldest_and_says_so
cursors: maxAgeMs, and not without a cursor
    test_what_is_older_than_was_asked_for_is_skipped_and_said
    test_an_age_without_a_cursor_is_not_looked_at
cursors: they move in quiet times
    test_a_quiet_stream_sends_heartbeats_whose_cursor_moves
    test_the_position_of_a_quiet_subscription_is_written_now_and_then
errors: both numberings, names, typed data
    test_every_error_has_its_number_in_each_numbering
    test_a_mistake_is_told_by_name_with_typed_data
legacy: list, poll, subscribe, unsubscribe
    test_the_legacy_protocol_subscribes_and_unsubscribes_too
    test_every_version_is_told_the_types_and_polls
ours: types, arguments narrow
    test_arguments_narrow
    test_what_is_told_has_the_shape_and_the_id_that_were_promised
ours: ended, failing
    test_an_event_that_has_no_run_left_has_ended_and_a_deleted_one_too_for_an_admin
    test_the_third_failure_in_a_row_makes_an_event_a_failing_one_and_no_other_does
    test_a_receiver_that_is_gone_makes_an_event_a_failing_one
strangers: the AI SDK
    test_the_ai_sdk_is_woken_by_mcp_events_and_keeps_its_subscription_over_a_restart
"""


def test_every_promise_has_its_tests() -> None:
    tests = Path(__file__).parents[2]
    sources = [*Path(__file__).parent.glob("test_*.py"), tests / "journeys" / "test_strangers.py"]
    defined = set(re.findall(r"^(?:async )?def (test_\w+)", "".join(map(Path.read_text, sources)), re.MULTILINE))
    promises = re.split(r"\n(?! )", PROMISES.strip())
    assert [promise for promise in promises if "test_" not in promise] == []
    assert set(re.findall(r"\btest_\w+", PROMISES)) - defined == set()

"""The checklist of security, rule by rule: which tests prove each, and what no test proves yet.

A name that is no test fails here, so the list cannot go stale; a rule without a test must say why it has none.
"""

import ast
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import pytest

TESTS: Final = Path(__file__).parents[1]

PROVED_BY: Final[Mapping[str, tuple[str, ...]]] = {
    # --- who asks
    "S1 every route needs a credential but those listed": (
        "faces/rest/test_doors.py::test_every_route_is_protected_or_on_the_list",
        "faces/rest/test_doors.py::test_the_table_says_which_doors_are_open",
    ),
    "S2 so does all of MCP, over HTTP and stdio": (
        "faces/mcp/test_start.py::test_a_request_without_a_good_token_is_refused_before_anything_is_told",
        "faces/mcp/test_stdio.py::test_a_bad_token_stops_the_start_with_one_line",
        "faces/mcp/test_stdio.py::test_with_a_shared_store_there_is_no_local_owner",
    ),
    "S3 the master token is compared in constant time": (
        "architecture/test_secrets_compared.py::test_no_secret_is_compared_by_equality",
        "usecases/test_tokens.py::test_the_master_token_is_the_master",
    ),
    "S4 weak, sample and equal secrets stop the start": (
        "architecture/test_config.py::test_sample_secrets_are_refused",
        "architecture/test_config.py::test_weak_secrets_are_refused",
        "architecture/test_config.py::test_equal_secrets_are_refused",
        "adapters/test_secrets.py::test_a_first_start_makes_three_strong_secrets_only_their_owner_can_read",
    ),
    "S5 HS256 and nothing else": (
        "adapters/local/test_jwt.py::test_a_header_that_is_not_ours_is_refused_though_the_signature_is_good",
        "adapters/local/test_jwt.py::test_an_unsigned_token_is_refused",
        "adapters/local/test_jwt.py::test_another_hash_with_our_secret_is_refused",
        "adapters/local/test_jwt.py::test_a_public_key_is_no_secret",
    ),
    "S6 claims are typed and closed": (
        "adapters/local/test_jwt.py::test_a_claim_of_a_wrong_kind_is_refused_though_the_signature_is_good",
        "adapters/local/test_jwt.py::test_every_claim_is_required",
    ),
    "S7 tokens end, and begin in the past": ("adapters/local/test_jwt.py::test_the_clock_decides",),
    "S8 revocation within five seconds": (
        "usecases/test_tokens.py::test_another_node_stops_it_at_the_signal",
        "usecases/test_tokens.py::test_a_node_that_hears_nothing_stops_it_within_five_seconds",
    ),
    "S9 rotation by kid": (
        "adapters/local/test_jwt.py::test_a_rotated_secret_still_verifies_until_it_is_removed_and_the_new_one_signs",
        "usecases/test_tokens.py::test_rotated_keys_both_verify_until_the_old_one_is_removed",
    ),
    "S10 one audience for all faces": ("faces/test_audience.py::test_a_token_for_another_opens_none_of_the_three",),
    "S11 only the master mints and revokes": (
        "faces/rest/test_doors.py::test_only_the_master_mints_lists_and_revokes",
    ),
    "S12 failures of verification look alike": (
        "faces/rest/test_doors.py::test_every_failure_of_authentication_has_one_body",
        "faces/test_verifier.py::test_anything_else_proves_nothing_after_the_same_work",
    ),
    # --- what they reach
    "S13 one may, and the stores' predicates are it": (
        "adapters/store/test_reach.py::test_a_list_of_events_is_the_filter_by_may",
        "adapters/store/test_isolation.py::test_a_list_holds_what_may_be_seen_and_nothing_else",
        "architecture/test_floors.py::test_sql_lives_in_the_two_stores",
    ),
    "S14 everything inherits the event's rule": (
        "faces/rest/test_two_tenants.py::test_a_token_replaying_the_other_tenants_requests_meets_no_byte_of_it",
        "faces/mcp/test_untrusted.py::test_a_tenant_gets_no_byte_of_another_whatever_it_asks",
    ),
    "S15 closed input, never bound to rows": (
        "domain/test_draft.py::test_what_only_answers_carry_has_no_effect",
        "domain/test_draft.py::test_an_unknown_field_is_refused_and_the_nearest_known_one_is_named",
    ),
    "S16 filters, cursors and totals see no further": (
        "faces/rest/test_two_tenants.py::test_lists_counts_and_cursors_of_a_hold_a_alone",
        "faces/rest/test_lists.py::test_a_cursor_is_a_position_and_not_a_permission",
    ),
    "S17 out of reach is absent": (
        "faces/rest/test_access_cases.py::test_out_of_reach_is_byte_for_byte_as_absent",
        "faces/rest/test_access_cases.py::test_out_of_reach_takes_as_long_as_absent",
    ),
    "S18 row-level security, optional": (),
    "S19 parameters only": ("faces/rest/test_inputs.py::test_hostile_text_in_a_filter_is_a_plain_value",),
    # --- input
    "S20 limits of input": (
        "domain/test_draft.py::test_beyond_them_it_is_refused_by_its_name",
        "faces/rest/test_inputs.py::test_bodies",
        "faces/mcp/test_errors.py::test_each_offered_fix_merged_into_the_call_is_accepted",
    ),
    "S21 schedule text is gated and bounded": (
        "domain/schedule/test_fuzz.py::test_nothing_but_the_declared_refusal_and_nothing_slow",
    ),
    "S22 nothing is expanded": (
        "faces/rest/test_two_tenants.py::test_templates_in_event_text_come_out_as_text",
        "adapters/http/test_couriers.py::test_text_is_sent_as_it_is_and_the_rest_as_json",
    ),
    # --- egress
    "S23 one door out": (
        "architecture/test_floors.py::test_connections_are_opened_behind_the_one_door_only",
        "journeys/test_secrecy.py::test_on_the_embedded_store_no_secret_is_met_again",
        "journeys/test_secrecy.py::test_on_postgresql_and_redis_no_secret_is_met_again_though_both_go_away",
    ),
    "S24 hostile URLs": (
        "domain/test_destination.py::test_no_spelling_of_this_machine_passes",
        "domain/test_destination.py::test_a_hostile_url_is_refused_by_one_error_class",
        "adapters/http/test_egress.py::test_no_spelling_of_this_machine_brings_a_byte_to_a_canary",
    ),
    "S25 the judged address is dialled": (
        "adapters/http/test_egress.py::test_a_name_that_turns_to_loopback_after_it_was_checked_reaches_nothing",
        "adapters/http/test_egress.py::test_the_host_name_is_kept_while_its_judged_address_is_dialled",
    ),
    "S26 no redirects, proxies, netrc, cookies": (
        "adapters/http/test_egress.py::test_a_redirect_is_an_answer_and_is_never_followed",
        "adapters/http/test_egress.py::test_proxies_and_netrc_of_the_environment_have_no_effect",
        "adapters/http/test_egress.py::test_cookies_are_not_kept",
    ),
    "S27 a caller's headers": (
        "domain/test_destination.py::test_a_header_that_is_ours_or_no_field_name_is_refused",
        "domain/test_destination.py::test_a_header_value_with_a_control_or_too_long_is_refused",
        "domain/test_destination.py::test_any_other_rfc_9110_name_is_accepted_as_given",
        "adapters/http/test_egress.py::test_no_line_break_leaves_the_door",
    ),
    "S28 an answer is data": (
        "adapters/http/test_egress.py::test_64_kib_of_an_endless_body_are_kept_and_then_it_is_closed",
        "adapters/http/test_couriers.py::test_a_secret_that_a_receiver_echoes_is_not_kept",
        "faces/rest/test_views.py::test_the_receivers_answer_is_shown_only_when_asked_for_and_as_text",
    ),
    "S29 refused destinations look alike": (
        "domain/test_destination.py::test_every_refused_address_is_refused_in_the_same_words",
        "adapters/http/test_egress.py::test_refused_closed_and_silent_private_ports_look_alike",
    ),
    "S30 only configuration lifts, and loudly": (
        "domain/test_destination.py::test_only_configuration_lifts_a_rule",
        "faces/test_operator.py::test_no_event_lifts_anything",
        "faces/test_operator.py::test_what_is_lifted_of_the_deny_list_is_said_at_the_start_and_only_there",
    ),
    # --- webhooks, secrets
    "S31 Standard Webhooks": (
        "adapters/http/test_couriers.py::test_a_webhook_is_as_published_and_the_reference_library_accepts_it",
        "domain/test_signature.py::test_any_flipped_byte_fails",
        "domain/test_signature.py::test_a_replay_over_five_minutes_old_fails",
    ),
    "S32 a secret per event, shown once, two for a day": (
        "usecases/test_secrets.py::test_none_is_made_strong_and_told_once",
        "usecases/test_secrets.py::test_an_empty_one_is_refused_at_the_making_and_later",
        "usecases/test_secrets.py::test_for_a_day_after_a_change_both_sign_and_then_the_new_one_alone",
        "adapters/http/test_couriers.py::test_without_a_secret_nothing_is_sent_least_of_all_signed_with_an_empty_key",
    ),
    "S33 ciphertext at rest": (
        "adapters/local/test_vault.py::test_moved_to_another_row_it_does_not_open",
        "usecases/test_at_rest.py::test_what_cannot_be_opened_is_counted_left_alone_and_keeps_nothing_else",
        "journeys/test_secrecy.py::test_on_the_embedded_store_no_secret_is_met_again",
        "journeys/test_rotation.py::test_the_embedded_key_is_rotated_under_two_processes_that_deliver",
        "journeys/test_rotation.py::test_on_postgresql_a_key_is_introduced_on_every_node_before_it_seals",
    ),
    "S34 secrets appear nowhere else": (
        "journeys/test_secrecy.py::test_on_the_embedded_store_no_secret_is_met_again",
        "journeys/test_secrecy.py::test_on_postgresql_and_redis_no_secret_is_met_again_though_both_go_away",
        "test_canaries.py::test_a_test_that_lets_one_out_fails_and_a_sound_one_does_not",
    ),
    # --- logs, audit
    "S35 redaction and one line": (
        "faces/rest/test_process.py::test_the_log_is_one_json_line_per_request_and_holds_nothing_a_caller_wrote",
        "test_canaries.py::test_a_field_that_is_not_on_the_list_of_logs_fails_the_test_that_logs_it",
    ),
    "S36 audit": (
        "faces/rest/test_audit.py::test_what_was_done_is_told_with_the_credential",
        "faces/rest/test_audit.py::test_what_was_refused_is_told_with_what_was_wanted",
    ),
    # --- MCP and browsers
    "S37 Host and Origin": (
        "faces/rest/test_guard.py::test_any_other_host_is_403_everywhere",
        "faces/rest/test_guard.py::test_a_foreign_origin_is_403",
        "faces/mcp/test_start.py::test_a_stranger_s_page_gets_nothing_with_or_without_a_token",
        "faces/test_sockets.py::test_a_page_of_a_foreign_origin_is_not_let_in",
    ),
    "S38 challenges": (
        "faces/rest/test_doors.py::test_a_refusal_by_access_says_insufficient_scope",
        "faces/mcp/test_errors.py::test_a_token_that_may_only_read_is_told_so",
    ),
    "S39 headers match the body, sessions their principal": (
        "faces/mcp/test_start.py::test_modern_headers_must_match_the_body",
        "faces/mcp/test_start.py::test_a_session_belongs_to_the_token_that_opened_it",
    ),
    "S40 an incoming token never goes out": (
        "journeys/test_secrecy.py::test_on_the_embedded_store_no_secret_is_met_again",
    ),
    "S41 nothing is cached that depends on the caller": (
        "faces/rest/test_guard.py::test_what_depends_on_the_caller_is_stored_nowhere",
        "faces/mcp/test_start.py::test_a_modern_client_discovers_the_same_and_the_extensions",
    ),
    "S42 stdio": (
        "faces/mcp/test_stdio.py::test_it_listens_nowhere_and_holds_its_secrets_in_files_of_its_own",
        "adapters/sqlite/test_file.py::test_only_the_owner_may_read_what_is_made",
    ),
    "S43 loopback by default, no CORS": (
        "architecture/test_config.py::test_another_address_in_clear_text_is_refused",
        "faces/rest/test_guard.py::test_our_own_origin_is_answered_and_no_cors_header_is_ever_sent",
        "faces/rest/test_guard.py::test_any_other_host_is_403_everywhere",
    ),
    # --- text is data
    "S44 text only under untrusted": (
        "faces/mcp/test_untrusted.py::test_text_of_others_stands_under_untrusted_and_nowhere_else",
        "faces/rest/test_two_tenants.py::test_errors_about_an_event_hold_none_of_its_text",
    ),
    "S45 nobody writes into another's list": (
        "faces/rest/test_access_cases.py::test_a_writer_plants_nothing_beyond_its_scope",
        "domain/test_access.py::test_nobody_gives_an_event_to_another_scope",
    ),
    "S46 hidden characters": (
        "domain/test_draft.py::test_beyond_them_it_is_refused_by_its_name",
        "domain/test_draft.py::test_hidden_characters_in_long_texts_are_noticed",
    ),
    "S47 an event cannot call Qhronos, chains end": (
        "adapters/http/test_egress.py::test_this_server_itself_is_never_a_destination",
        "domain/test_destination.py::test_nothing_lifts_the_addresses_and_names_that_are_this_server",
        "usecases/test_events.py::test_an_agent_that_schedules_itself_is_stopped_after_ten_quick_links",
        "faces/test_provenance.py::test_a_link_made_slow_and_hurried_afterwards_is_a_quick_one",
    ),
    "S48 true hints, safe repeats": (
        "faces/mcp/test_tools.py::test_the_tools_are_listed_in_a_stable_order_with_all_four_hints",
        "faces/mcp/test_tools.py::test_creating_with_a_key_is_safe_to_repeat",
    ),
    # --- resources
    "S49 limits and quotas": (
        "adapters/test_limits.py::test_five_hundred_at_once_take_no_more_than_the_limit_and_one_in_a_hundred",
        "faces/rest/test_rate_limits.py::test_500_callers_at_once_get_no_more_than_the_burst_and_a_hundredth",
        "usecases/test_events.py::test_quotas_hold_for_write_tokens_per_sub",
    ),
    "S50 caps per host and address": (
        "adapters/http/test_hosts.py::test_no_more_than_the_cap_are_sent_at_once_and_one_that_ends_makes_room",
        "adapters/http/test_egress.py::test_many_names_of_one_address_are_never_above_its_cap_and_all_get_through",
    ),
    # --- keeping house
    "S51 headers": (
        "faces/rest/test_guard.py::test_every_answer_carries_the_guarding_headers",
        "faces/rest/test_page.py::test_every_file_is_open_revalidated_and_under_a_strict_policy",
        "faces/rest/test_guard.py::test_a_crash_is_a_500_that_tells_nothing",
        "faces/rest/test_process.py::test_a_public_address_needs_tls_in_front_or_a_word_aloud",
    ),
    "S52 OpenAPI equals the routes": (
        "faces/rest/test_openapi.py::test_the_document_is_the_route_table",
        "faces/rest/test_fuzz.py::test_whatever_is_sent_the_document_is_kept",
    ),
    "S53 locked versions": (
        "architecture/test_locks.py::test_every_locked_version_has_hashes",
        "architecture/test_locks.py::test_a_lock_holds_every_dependency_at_a_version_the_project_accepts",
    ),
    "S54 answers tell nothing of the machinery": (
        "faces/rest/test_guard.py::test_a_crash_is_a_500_that_tells_nothing",
        "faces/mcp/test_errors.py::test_a_crash_tells_nothing_of_itself",
        "journeys/test_secrecy.py::test_on_postgresql_and_redis_no_secret_is_met_again_though_both_go_away",
        "test_canaries.py::test_what_gives_the_machinery_away_is_known",
    ),
}

GAPS: Final[Mapping[str, str]] = {
    "S18": "optional, and not built: the predicates of S13 are the only belt",
    "S48": "the hints are compared with a table, not yet with what each tool really changes",
    "S53": "scripts/audit.sh asks for advisories where it can; CI does not, since it would depend on a service of others",
}
"""What the tests above leave open."""


@cache
def named_in(file: str) -> frozenset[str]:
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def test_every_rule_is_on_the_list_once() -> None:
    assert [rule.split()[0] for rule in PROVED_BY] == [f"S{n}" for n in range(1, 55)]


@pytest.mark.parametrize("rule", PROVED_BY)
def test_what_proves_a_rule_is_a_test(rule: str) -> None:
    names = PROVED_BY[rule]
    missing = [name for name in names if name.split("::")[1] not in named_in(name.split("::")[0])]
    assert missing == []
    assert names or rule.split(maxsplit=1)[0] in GAPS, "a rule that nothing proves must say why"

"""Where each fault of disks, processes, receivers, time and life is proved (reliability.md §3); long runs: `--list`."""

from collections.abc import Mapping, Sequence
from typing import Final

import pytest

from tests.faults.test_lessons import functions_of

PROOFS: Final[Mapping[str, Sequence[str]]] = {
    "F12": [
        "adapters/postgres/test_connections.py::test_a_deadlock_is_run_again_unseen",
        "adapters/postgres/test_connections.py::test_twenty_writers_of_one_event_each_win_once_or_are_told",
    ],
    "F13": [
        (
            "adapters/postgres/test_plans.py"
            "::test_behind_a_long_transaction_a_look_above_the_floor_reads_no_dead_entries"
        ),
        "adapters/postgres/test_plans.py::test_a_look_that_finds_little_reads_little",
    ],
    "F21": [
        "domain/schedule/test_clock_changes.py::test_around_every_change_of_clocks_cron_runs_when_debian_would",
        "domain/schedule/test_clock_changes.py::test_a_whole_year_of_a_random_rule_is_debians",
        "usecases/test_zones.py::test_wall_clock_rows_ahead_are_planned_anew",
    ],
    "F22": [
        "domain/schedule/test_cron.py::test_the_rarest_days_are_found_and_the_centuries_have_no_leap_day",
        "domain/schedule/test_cron.py::test_nothing_is_planned_for_the_year_2200",
        "domain/schedule/test_timetable.py::test_a_rule_that_never_comes_is_refused",
    ],
    "F23": [
        (
            "faults/test_embedded.py"
            "::test_without_room_or_sync_nothing_is_acknowledged_and_all_goes_on_by_itself_afterwards"
        )
    ],
    "F24": ["faults/test_embedded.py::test_where_logs_cannot_be_written_everything_goes_on"],
    "F25": [
        "adapters/sqlite/test_file.py::test_after_a_failed_write_to_the_disk_the_connection_is_made_anew",
        (
            "faults/test_embedded.py"
            "::test_without_room_or_sync_nothing_is_acknowledged_and_all_goes_on_by_itself_afterwards"
        ),
    ],
    "F26": [
        (
            "faults/test_crowds.py"
            "::test_with_all_descriptors_used_up_callers_are_shed_and_what_is_due_is_sent_at_the_first_attempt"
        )
    ],
    "F27": [
        "faults/test_crowds.py::test_hundreds_of_slow_callers_hold_up_nobody_and_cost_little_memory",
        "faces/rest/test_process.py::test_a_chunked_body_is_cut_off_at_the_limit_and_the_connection_lives_on",
    ],
    "F28": [
        "faults/test_receivers.py::test_what_is_slow_ends_by_its_deadline_and_its_slot_is_free_for_the_next",
        "adapters/http/test_egress.py::test_one_deadline_ends_whatever_is_slow_and_frees_the_connection",
    ],
    "F29": ["faults/test_crowds.py::test_hundreds_of_slow_callers_hold_up_nobody_and_cost_little_memory"],
    "F30": [
        "adapters/http/test_egress.py::test_64_kib_of_an_endless_body_are_kept_and_then_it_is_closed",
        "adapters/http/test_egress.py::test_nothing_is_inflated",
    ],
    "F31": [
        "adapters/http/test_egress.py::test_a_redirect_is_an_answer_and_is_never_followed",
        "faults/test_receivers.py::test_a_zoo_of_receivers_is_recorded_for_what_it_is_and_the_worker_lives",
    ],
    "F32": [
        "adapters/http/test_egress.py::test_a_malformed_reply_is_no_answer_and_the_worker_lives",
        "adapters/http/test_egress.py::test_an_endless_header_is_no_answer_and_memory_stays_flat",
    ],
    "F33": [
        "adapters/http/test_egress.py::test_a_bad_certificate_or_version_is_refused_and_never_downgraded",
        "adapters/http/test_egress.py::test_a_handshake_that_stalls_or_is_cut_ends_by_the_deadline",
    ],
    "F34": [
        "adapters/http/test_egress.py::test_one_refused_address_among_a_names_refuses_them_all",
        (
            "adapters/http/test_egress.py"
            "::test_of_thousands_of_answers_of_a_rebinding_resolver_none_brings_a_byte_to_a_canary"
        ),
        "adapters/http/test_egress.py::test_a_resolver_that_hangs_ends_by_the_deadline",
        "adapters/http/test_egress.py::test_one_private_address_among_a_thousand_refuses_them_all",
    ],
    "F38": ["faults/test_writers.py::test_an_event_that_crashes_every_worker_ends_failed_and_the_others_go_on"],
    "F42": [
        "scheduler/test_catching_up.py::test_of_a_long_outage_the_latest_thousand_have_a_row_and_the_journal_has_the_rest"
    ],
    "F44": ["faults/test_writers.py::test_of_fifty_writers_on_one_event_none_loses_a_field_while_it_is_dispatched"],
    "F49": ["faults/test_embedded.py::test_after_a_night_with_the_lid_closed_one_run_stands_for_all_that_was_missed"],
    "F50": [
        "faces/rest/test_process.py::test_a_taken_port_is_one_clear_line_and_nothing_half_made",
        "faults/test_embedded.py::test_a_data_directory_may_have_any_name_a_file_system_takes",
        (
            "faults/test_embedded.py"
            "::test_a_place_that_may_not_be_written_is_refused_at_the_start_with_the_path_and_the_fix"
        ),
    ],
    "F51": [
        "faults/test_agents.py::test_what_an_agent_held_is_free_for_the_next_one_when_its_host_has_gone",
        "faults/test_agents.py::test_a_process_whose_host_reads_no_more_and_closes_stdin_ends",
    ],
    "F52": ["faces/test_sockets.py::test_a_client_that_reads_nothing_is_cut_off_and_others_have_theirs_meanwhile"],
    "F53": ["adapters/store/test_retention.py::test_whatever_the_history_only_old_ended_rows_go"],
    "F55": ["faults/test_embedded.py::test_an_old_copy_of_the_store_sends_again_under_the_same_ids"],
    "F56": [
        "adapters/http/test_couriers.py::test_retry_after_is_heard_within_bounds_and_rubbish_is_not",
        "faults/test_receivers.py::test_retry_after_is_waited_for_within_its_bounds_and_rubbish_is_not",
        "scheduler/test_life_of_an_occurrence.py::test_a_gone_receiver_fails_it_and_pauses_the_event_visibly",
    ],
    "F57": [
        ("faults/test_embedded.py::test_a_lock_of_another_process_costs_callers_time_then_a_503_and_nothing_is_lost")
    ],
    "F58": [
        "faults/test_disk.py::test_refused_by_the_disk_at_any_call_a_transaction_is_undone_whole_and_the_next_one_goes",
        "adapters/sqlite/test_file.py::test_a_full_disk_leaves_whole_transactions_and_passes",
    ],
    "F59": ["faults/test_disk.py::test_killed_anywhere_between_the_first_creation_and_the_close_nothing_is_half"],
    "F60": [
        "adapters/store/test_processes.py::test_four_processes_claim_every_row_once_and_plan_every_successor_once",
        "faults/test_one_file.py::test_beside_processes_that_write_without_end_nobody_waits_two_seconds",
        "adapters/sqlite/test_file.py::test_a_network_file_system_is_refused",
    ],
    "F61": ["faults/test_one_file.py::test_the_log_grows_while_a_stranger_reads_says_so_and_is_folded_back_afterwards"],
    "F62": [
        "faults/test_embedded.py::test_a_directory_that_went_away_is_said_by_all_and_made_anew_by_nobody",
        (
            "adapters/sqlite/test_file.py"
            "::test_a_removed_file_is_not_made_anew_and_nothing_is_acknowledged_into_the_void"
        ),
    ],
    "F63": [
        "adapters/sqlite/test_file.py::test_a_newer_schema_is_refused_untouched",
        "adapters/sqlite/test_file.py::test_a_damaged_page_is_refused_untouched_with_the_way_back",
        "adapters/sqlite/test_file.py::test_another_programs_database_is_refused_untouched",
    ],
    "F64": ["faults/test_disk.py::test_what_was_acknowledged_is_there_after_the_power_is_cut"],
}


@pytest.mark.parametrize("fault", sorted(PROOFS))
def test_each_fault_has_a_proof_that_is_there(fault: str) -> None:
    for named in PROOFS[fault]:
        path, _, function = named.partition("::")
        assert function in functions_of(path), named

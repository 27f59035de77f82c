package main

import (
	"bytes"
	"testing"
)

func TestWeekDate(t *testing.T) {
	for date, want := range map[string]string{
		"2027-01-03": "2026-W53-7",
		"2024-12-30": "2025-W01-1",
		"2024-02-29": "2024-W09-4",
		"0001-01-01": "0001-W01-1",
	} {
		if got, err := weekDate(date); err != nil || got != want {
			t.Errorf("%s gives %q, %v; want %q", date, got, err, want)
		}
	}
}

func TestOneBadDateDoesNotStopTheOthers(t *testing.T) {
	var out, complaints bytes.Buffer
	if code := run([]string{"2023-02-29", "2024-02-29"}, &out, &complaints); code != badDate {
		t.Errorf("the code is %d, want %d", code, badDate)
	}
	if out.String() != "2024-W09-4\n" || complaints.Len() == 0 {
		t.Errorf("printed %q and %q", out.String(), complaints.String())
	}
}

// Command calends prints the year, the week and the day of a date as ISO 8601 counts them.
package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	endedWell = 0
	badDate   = 1
	wrongUse  = 2
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(dates []string, out, complaints io.Writer) int {
	if len(dates) == 0 {
		fmt.Fprintln(complaints, "usage: calends YYYY-MM-DD...")
		return wrongUse
	}
	ending := endedWell
	for _, date := range dates {
		week, err := weekDate(date)
		if err != nil {
			fmt.Fprintf(complaints, "calends: %q is not a date: %v\n", date, err)
			ending = badDate
			continue
		}
		fmt.Fprintln(out, week)
	}
	return ending
}

// weekDate turns a calendar date into a week date: 2027-01-03 is 2026-W53-7.
func weekDate(date string) (string, error) {
	day, err := time.Parse(time.DateOnly, date)
	if err != nil {
		return "", err
	}
	year, week := day.ISOWeek()
	// time.Weekday counts from Sunday = 0, ISO 8601 from Monday = 1 to Sunday = 7.
	weekday := (int(day.Weekday())+6)%7 + 1
	return fmt.Sprintf("%04d-W%02d-%d", year, week, weekday), nil
}

package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
)

// syncTable is syncs a line each.
var syncTable = table[*localv1.Sync]{
	head: []string{
		"sync", "state", "mode", "source", "add", "update", "unchanged", "remove", "suppressed", "rejected", "duplicate", "kept",
		"membership before", "membership after", "mailing before", "mailing after", "margin before", "margin after",
		"charter before", "charter after", "created", "applied",
	},
	row: func(s *localv1.Sync) []string {
		c, before, after := s.GetCounts(), s.GetStandingBefore(), s.GetStandingAfter()
		return []string{
			s.GetName(), s.GetState().String(), s.GetMode().String(), s.GetSource(),
			count(c.GetAdd()), count(c.GetUpdate()), count(c.GetUnchanged()), count(c.GetRemove()),
			count(c.GetSuppressed()), count(c.GetRejected()), count(c.GetDuplicate()), count(c.GetKept()),
			standingCell(before, membership), standingCell(after, membership), standingCell(before, mailing), standingCell(after, mailing),
			standingCell(before, margin), standingCell(after, margin),
			charterCell(s.GetCharterStateBefore()), charterCell(s.GetCharterStateAfter()),
			date(s.GetCreateTime()), date(s.GetApplyTime()),
		}
	},
}

// printSync shows one sync: as a page for people, as a row for spreadsheets.
func printSync(o output, w io.Writer, s *localv1.Sync) error {
	if o.Output != "table" {
		t := syncTable
		t.items = []*localv1.Sync{s}
		return printTable(o, w, t)
	}
	page := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	line := func(cells ...string) { _, _ = fmt.Fprintln(page, strings.Join(each(cells, visible), "\t")) } // kept, and returned by Flush
	line("sync", s.GetName())
	line("state", stateLine(s))
	line("file", fileLine(s))
	line()
	for _, row := range countRows(s.GetCounts()) {
		line(row...)
	}
	line()
	for _, row := range standingRows(s) {
		line(row...)
	}
	return page.Flush()
}

// stateLine is the state with the moment that matters next.
func stateLine(s *localv1.Sync) string {
	state := s.GetState().String()
	switch s.GetState() {
	case localv1.Sync_PLANNED:
		return state + ", can be applied until " + date(s.GetExpireTime())
	case localv1.Sync_BLOCKED:
		return fmt.Sprintf("%s, %d removals to confirm until %s", state, s.GetConfirmRemovals(), date(s.GetExpireTime()))
	case localv1.Sync_APPLIED:
		if s.GetRevertExpireTime() != nil {
			return fmt.Sprintf("%s %s, can be reverted until %s", state, date(s.GetApplyTime()), date(s.GetRevertExpireTime()))
		}
		return state + " " + date(s.GetApplyTime())
	case localv1.Sync_REVERTED:
		return fmt.Sprintf("%s %s, %d entries had changed since", state, date(s.GetRevertTime()), s.GetConflicts())
	case localv1.Sync_FAILED:
		return fmt.Sprintf("%s: %s (%s)", state, s.GetFailure().GetText(), s.GetFailure().GetReason())
	default:
		return state
	}
}

// fileLine says how the file was read.
func fileLine(s *localv1.Sync) string {
	f := s.GetFormat()
	parts := []string{s.GetSource(), s.GetMode().String(), f.GetMediaType(), f.GetEncoding()}
	if f.GetTitleLines() > 0 {
		parts = append(parts, fmt.Sprintf("%d lines of title", f.GetTitleLines()))
	}
	if f.GetAddressColumn() != "" {
		parts = append(parts, fmt.Sprintf("addresses in %q", f.GetAddressColumn()))
	}
	if len(f.GetNameColumns()) > 0 {
		parts = append(parts, fmt.Sprintf("names in %q", strings.Join(f.GetNameColumns(), " + ")))
	}
	if f.GetStateColumn() != "" {
		parts = append(parts, fmt.Sprintf("states in %q", f.GetStateColumn()))
	}
	return strings.Join(parts, ", ")
}

func countRows(c *localv1.SyncCounts) [][]string {
	return [][]string{
		{"add", count(c.GetAdd())},
		{"update", count(c.GetUpdate())},
		{"remove", count(c.GetRemove())},
		{"unchanged", count(c.GetUnchanged())},
		{"kept", count(c.GetKept()), "not in the file, claimed by another source"},
		{"suppressed", count(c.GetSuppressed()), "left or bounced, stays away"},
		{"rejected", count(c.GetRejected())},
		{"duplicate", count(c.GetDuplicate())},
	}
}

// standingRows is what the sync does to the standing and to the charter.
func standingRows(s *localv1.Sync) [][]string {
	if s.GetStandingUnavailable() || s.GetStandingBefore() == nil {
		return [][]string{{"standing", "the figures could not be had"}}
	}
	before, after := s.GetStandingBefore(), s.GetStandingAfter()
	rows := [][]string{{"standing", "before", "after"}}
	for _, row := range []struct {
		name string
		cell func(*internationalv1.Standing) string
	}{
		{"membership", membership},
		{"mailing", mailing},
		{"eligible", func(s *internationalv1.Standing) string { return yes(s.GetEligible()) }},
		{"basis", func(s *internationalv1.Standing) string { return basis(s.GetBasis()) }},
		{"margin", margin},
	} {
		rows = append(rows, []string{row.name, standingCell(before, row.cell), standingCell(after, row.cell)})
	}
	return append(rows, []string{"charter", charterCell(s.GetCharterStateBefore()), charterCell(s.GetCharterStateAfter())})
}

func standingCell(s *internationalv1.Standing, cell func(*internationalv1.Standing) string) string {
	if s == nil {
		return ""
	}
	return cell(s)
}

func membership(s *internationalv1.Standing) string { return figures(s.GetMembership()) }
func mailing(s *internationalv1.Standing) string    { return figures(s.GetMailing()) }
func margin(s *internationalv1.Standing) string     { return count(s.GetMargin()) }

func charterCell(state internationalv1.Charter_State) string {
	if state == internationalv1.Charter_STATE_UNSPECIFIED {
		return "none"
	}
	return state.String()
}

func count(n int32) string { return fmt.Sprint(n) }

// lastID is the last element of a resource name.
func lastID(name string) string { return name[strings.LastIndex(name, "/")+1:] }

package regional

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/regional/db"
)

// The states of a case, and the last one of what lies with the international body.
const (
	open           = "OPEN"
	answered       = "ANSWERED"
	merged         = "MERGED"
	escalated      = "ESCALATED"
	withdrawn      = "WITHDRAWN"
	closed         = "CLOSED"
	handedToVendor = "HANDED_TO_VENDOR"
)

// With whom a concern lies, where it is no region.
const (
	internationalBody = "international"
	vendor            = "vendor"
)

// escalationPrefix begins the names of what lies with the international body.
const escalationPrefix = "concerns/"

func caseName(region, id string) string { return regionName(region) + "/concerns/" + id }

// caseID is the UUID that a concern has in all tiers.
func caseID(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }

// forest is cases with all that they lead to, and what was answered on the way.
type forest struct {
	cases map[string]*db.Case
	// below are the names of those that lead directly to a case.
	below map[string][]string
	// answers are kept under the name of the case, or of the international body's concern, where they were given.
	answers     map[string][]db.CaseAnswer
	escalations map[string]db.Escalation
}

func newForest() *forest {
	return &forest{
		cases: map[string]*db.Case{}, below: map[string][]string{},
		answers: map[string][]db.CaseAnswer{}, escalations: map[string]db.Escalation{},
	}
}

func (f *forest) add(rows ...db.Case) {
	for _, row := range rows {
		if _, known := f.cases[row.Name]; known {
			continue
		}
		f.cases[row.Name] = &row
		if row.LeadsTo != nil {
			f.below[*row.LeadsTo] = append(f.below[*row.LeadsTo], row.Name)
		}
	}
}

// link lets a case that led nowhere lead to another.
func (f *forest) link(row *db.Case, to string) {
	row.LeadsTo = &to
	f.below[to] = append(f.below[to], row.Name)
}

// loadTree reads the whole tree that a case belongs to. There are no cases in it when there is none of that name.
func (f *forest) loadTree(ctx context.Context, q *db.Queries, name string) error {
	if f.cases[name] != nil {
		return nil
	}
	above, err := q.CasesAbove(ctx, []string{name})
	if err != nil || len(above) == 0 {
		return err
	}
	way := newForest()
	way.add(above...)
	head := name
	for _, next := range way.up(name) {
		head = next
	}
	rows, err := q.CasesBelow(ctx, head)
	if err != nil {
		return err
	}
	f.add(rows...)
	return f.loadAnswers(ctx, q, rows)
}

// loadWays reads cases' ways without what was answered on them.
func (f *forest) loadWays(ctx context.Context, q *db.Queries, names []string) error {
	rows, err := q.CasesAbove(ctx, names)
	if err != nil {
		return err
	}
	f.add(rows...)
	return f.loadEscalations(ctx, q, escalationsOf(rows))
}

func (f *forest) loadAnswers(ctx context.Context, q *db.Queries, rows []db.Case) error {
	places := escalationsOf(rows)
	for _, row := range rows {
		places = append(places, row.Name)
	}
	return f.loadPlaces(ctx, q, places)
}

// loadPlaces reads what was answered at cases and by the international body. It may know a concern already that is
// escalated to it just now: when this database was restored from a backup.
func (f *forest) loadPlaces(ctx context.Context, q *db.Queries, places []string) error {
	answers, err := q.AnswersAt(ctx, places)
	if err != nil {
		return err
	}
	for _, answer := range answers {
		f.answers[answer.GivenAt] = append(f.answers[answer.GivenAt], answer)
	}
	return f.loadEscalations(ctx, q, places)
}

func (f *forest) loadEscalations(ctx context.Context, q *db.Queries, names []string) error {
	if len(names) == 0 {
		return nil
	}
	escalations, err := q.Escalations(ctx, names)
	for _, escalation := range escalations {
		f.escalations[escalation.Name] = escalation
	}
	return err
}

// escalationsOf lists where cases lie with the international body.
func escalationsOf(rows []db.Case) []string {
	var names []string
	for _, row := range rows {
		if row.LeadsTo != nil && strings.HasPrefix(*row.LeadsTo, escalationPrefix) {
			names = append(names, *row.LeadsTo)
		}
	}
	return names
}

// up lists a case and the cases that it leads to, one after the other.
func (f *forest) up(name string) []string {
	var way []string
	for row := f.cases[name]; row != nil; row = f.cases[name] {
		way = append(way, name)
		if row.LeadsTo == nil {
			break
		}
		name = *row.LeadsTo
	}
	return way
}

// down lists a case and all that lead to it.
func (f *forest) down(name string) []string {
	names := []string{name}
	for i := 0; i < len(names); i++ {
		names = append(names, f.below[names[i]]...)
	}
	return names
}

// raisers lists the concerns that lead to a case and were not withdrawn, sorted.
func (f *forest) raisers(name string) []string {
	var concerns []string
	for _, below := range f.down(name) {
		if row := f.cases[below]; row != nil && row.Concern != "" && !row.Withdrawn {
			concerns = append(concerns, row.Concern)
		}
	}
	slices.Sort(concerns)
	return concerns
}

// answersOf lists what was answered to a case and to all that it leads to, oldest first.
func (f *forest) answersOf(name string) []db.CaseAnswer {
	var all []db.CaseAnswer
	for _, at := range f.up(name) {
		all = append(all, f.answers[at]...)
		if to := f.cases[at].LeadsTo; to != nil && f.cases[*to] == nil {
			all = append(all, f.answers[*to]...)
		}
	}
	slices.SortFunc(all, func(a, b db.CaseAnswer) int {
		if c := a.CreateTime.Compare(b.CreateTime); c != 0 {
			return c
		}
		return strings.Compare(a.ID.String(), b.ID.String())
	})
	return all
}

// casePlace is where a concern lies.
type casePlace struct {
	with, state string
	due         *time.Time
	overdue     bool
	vendorNote  string
}

// lies says where a case has got to.
func (f *forest) lies(name string) casePlace {
	way := f.up(name)
	last := f.cases[way[len(way)-1]]
	if last.LeadsTo == nil {
		at := casePlace{with: regionName(last.RegionID), state: last.State, overdue: last.Overdue}
		if last.State == open {
			at.due = &last.DueTime
		}
		return at
	}
	there, heard := f.escalations[*last.LeadsTo]
	if !heard { // the international body has not said yet that it has it
		return casePlace{with: internationalBody, state: open}
	}
	at := casePlace{with: internationalBody, state: there.State, due: there.DueTime, overdue: there.Overdue, vendorNote: there.VendorNote}
	if there.State == handedToVendor {
		at.with = vendor
	}
	return at
}

// caseChange is a transaction's work on cases.
type caseChange struct {
	*forest

	tx      pgx.Tx
	q       *db.Queries
	now     time.Time
	due     time.Time
	touched map[string]bool
}

// openCases takes the lock of all cases: they lead to each other, and they are few.
func (s *Service) openCases(ctx context.Context, tx pgx.Tx) (*caseChange, error) {
	c := &caseChange{forest: newForest(), tx: tx, q: db.New(tx), now: s.clock.Now(), touched: map[string]bool{}}
	c.due = c.now.Add(s.config.AnswerDue)
	return c, c.q.LockCases(ctx)
}

// load returns a case, with its tree in the forest; nil when there is none.
func (c *caseChange) load(ctx context.Context, name string) (*db.Case, error) {
	err := c.loadTree(ctx, c.q, name)
	return c.cases[name], err
}

func (c *caseChange) touch(names ...string) {
	for _, name := range names {
		c.touched[name] = true
	}
}

// insert adds a case.
func (c *caseChange) insert(ctx context.Context, row db.InsertCaseParams) (*db.Case, error) {
	row.Epoch, row.Now, row.DueTime = c.now.UnixMicro(), c.now, c.due
	made, err := c.q.InsertCase(ctx, row)
	if err != nil {
		return nil, fmt.Errorf("insert %s: %w", row.Name, err)
	}
	if err := c.q.PutCaseWords(ctx, db.PutCaseWordsParams{Name: row.Name, Subject: row.Subject, Body: row.Body}); err != nil {
		return nil, fmt.Errorf("insert the words of %s: %w", row.Name, err)
	}
	c.add(made)
	c.touch(row.Name)
	return c.cases[row.Name], nil
}

// answer records what was answered at a case or by the international body. Said again, it is one answer.
func (c *caseChange) answer(ctx context.Context, id uuid.UUID, at, by, body string, when time.Time) error {
	answer := db.CaseAnswer{ID: id, GivenAt: at, GivenBy: by, Body: body, CreateTime: when}
	if slices.ContainsFunc(c.answers[at], func(known db.CaseAnswer) bool { return known.ID == id }) {
		return nil
	}
	c.answers[at] = append(c.answers[at], answer)
	return c.q.InsertAnswer(ctx, db.InsertAnswerParams(answer))
}

// settle writes the cases that were touched in their next version, and tells of them.
func (c *caseChange) settle(ctx context.Context) error {
	names := slices.Sorted(maps.Keys(c.touched))
	if len(names) == 0 {
		return nil
	}
	rows := make([]savedCase, 0, len(names))
	events := make([]bus.Event, 0, len(names))
	for _, name := range names {
		row := c.cases[name]
		if row.FirstAnswerTime == nil && len(c.answersOf(name)) > 0 {
			row.FirstAnswerTime = &c.now
		}
		row.Version++
		row.UpdateTime = c.now
		rows = append(rows, saved(row))
		events = append(events, caseChanged(c.forest, row))
	}
	clear(c.touched)
	encoded, err := json.Marshal(rows)
	if err != nil {
		return err
	}
	if err := c.q.UpdateCases(ctx, encoded); err != nil {
		return fmt.Errorf("update %d cases: %w", len(rows), err)
	}
	return bus.Append(ctx, c.tx, events...)
}

// savedCase is what of a case changes, for the statement that writes many.
type savedCase struct {
	Name              string     `json:"name"`
	Withdrawn         bool       `json:"withdrawn"`
	State             string     `json:"state"`
	LeadsTo           *string    `json:"leads_to"`
	EscalationSummary string     `json:"escalation_summary"`
	Overdue           bool       `json:"overdue"`
	RemindedTime      *time.Time `json:"reminded_time"`
	FirstAnswerTime   *time.Time `json:"first_answer_time"`
	Version           int64      `json:"version"`
	UpdateTime        time.Time  `json:"update_time"`
}

func saved(row *db.Case) savedCase {
	return savedCase{
		Name: row.Name, Withdrawn: row.Withdrawn, State: row.State, LeadsTo: row.LeadsTo,
		EscalationSummary: row.EscalationSummary, Overdue: row.Overdue, RemindedTime: row.RemindedTime, FirstAnswerTime: row.FirstAnswerTime, Version: row.Version, UpdateTime: row.UpdateTime,
	}
}

// mergeable follows merged cases to the one that goes on; false where that has come to its end.
func (c *caseChange) mergeable(row *db.Case) (*db.Case, bool) {
	for row != nil && row.State == merged {
		row = c.cases[*row.LeadsTo]
	}
	return row, row != nil && slices.Contains([]string{open, answered, escalated}, row.State)
}

// merge lets a case get the answers of another.
func (c *caseChange) merge(row, into *db.Case) {
	row.State, row.Overdue = merged, false
	c.link(row, into.Name)
	c.touch(c.down(row.Name)...)
	c.touch(c.up(into.Name)...)
}

// escalate hands a case to the region above it.
func (c *caseChange) escalate(ctx context.Context, row *db.Case, summary string) error {
	next, err := c.regionAbove(ctx, row)
	if err != nil {
		return err
	}
	row.State, row.Overdue, row.EscalationSummary = escalated, false, summary
	if next == "" {
		c.link(row, escalationPrefix+caseID(row.Name))
		c.touch(c.down(row.Name)...)
		return c.loadPlaces(ctx, c.q, []string{*row.LeadsTo})
	}
	made, err := c.insert(ctx, db.InsertCaseParams{
		Name: caseName(next, caseID(row.Name)), RegionID: next, FromRegion: regionName(row.RegionID), State: open,
		Subject: row.Subject, Body: row.Body, Shared: row.Shared, Summary: summary, RaiseTime: row.RaiseTime,
	})
	if err != nil {
		return err
	}
	c.link(row, made.Name)
	c.touch(c.down(made.Name)...)
	return nil
}

// regionAbove is the next region on the way up, below the world; empty for the international body. A region that the
// concern has lain in already, because the tree was changed, is passed by.
func (c *caseChange) regionAbove(ctx context.Context, row *db.Case) (string, error) {
	path, err := c.q.RegionPath(ctx, row.RegionID)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for i := len(path) - 2; i > 0; i-- {
		_, err := c.q.ReadCase(ctx, caseName(path[i], caseID(row.Name)))
		if errors.Is(err, pgx.ErrNoRows) {
			return path[i], nil
		}
		if err != nil {
			return "", err
		}
	}
	return "", nil
}

// withdraw takes a chapter's concern out of its case. What nobody raises any more is withdrawn all the way up.
func (c *caseChange) withdraw(row *db.Case) {
	row.Withdrawn = true
	for _, name := range c.up(row.Name) {
		at := c.cases[name]
		if at.State != closed && len(c.raisers(name)) == 0 {
			at.State, at.Overdue = withdrawn, false
		}
		c.touch(name)
	}
}

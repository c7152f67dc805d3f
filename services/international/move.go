package international

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/bus"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// How the two sides of a standing are kept from missing each other.
//
// A list gains a token while the same person's term starts: each transaction is blind to the other's uncommitted rows,
// and both would leave the person out. So whoever touches a token first takes the lock of its bucket: a change of a list
// takes those of the tokens it brings shared, a change in the register takes those of all of a member's tokens alone.
// After the buckets come the standings, in the order of their numbers, and after them the charters; a change of a list
// takes its standing before it counts, since two changes of one chapter share their buckets.

// tokenLocks is the class of the advisory locks of token buckets.
const tokenLocks = 7001

// tokenBuckets bounds the locks that one transaction takes: a list of a million tokens takes 1024.
const tokenBuckets = 1024

// genericPlans lets a transaction use the plans that are made already. Left to itself PostgreSQL plans anew whatever takes
// an array, for half a millisecond each, since it takes the array of a plan that fits all for longer than these are.
const genericPlans = "SET LOCAL plan_cache_mode = force_generic_plan"

// buckets returns the buckets of the tokens, lowest first. LockTokensOfMembers computes the same in SQL.
func buckets(tokens [][]byte) []int32 {
	var held [tokenBuckets]bool
	for _, token := range tokens {
		held[(int(token[2])<<8+int(token[3]))%tokenBuckets] = true
	}
	var found []int32
	for bucket, is := range held {
		if is {
			found = append(found, int32(bucket))
		}
	}
	return found
}

// delta is what a change does to the counters of one standing.
type delta struct {
	membership, mailing people
}

func (d *delta) on(basis int16) *people {
	if basis == int16(internationalv1.Basis_MEMBERSHIP) {
		return &d.membership
	}
	return &d.mailing
}

// deltas are the changes of counters by chapter number.
type deltas map[int64]delta

func (d deltas) add(chapterNo int64, basis int16, total, international int32) {
	change := d[chapterNo]
	p := change.on(basis)
	p.total += total
	p.international += international
	d[chapterNo] = change
}

func (d deltas) addPeople(rows []db.PeopleByTokensRow, sign int32) {
	for _, row := range rows {
		d.add(row.ChapterNo, row.Basis, sign*row.Total, sign*row.International)
	}
}

// cause says what moved standings; the history keeps it.
type cause struct {
	kind internationalv1.StandingRecord_Cause
	// Of a list: which one, and its version.
	listNo  *int64
	version bus.Version
}

var (
	byRegister = cause{kind: internationalv1.StandingRecord_REGISTER}
	byPolicy   = cause{kind: internationalv1.StandingRecord_POLICY}
)

func byList(listNo int64, version bus.Version) cause {
	return cause{kind: internationalv1.StandingRecord_LIST, listNo: &listNo, version: version}
}

// moved is a standing that changed, before and after.
type moved struct {
	chapter       string
	before, after db.Standing
	policy        db.Policy
}

// settle adds the deltas to the standings, judges them anew, and tells: standing events, and charters that the loss or
// return of eligibility moves. What else the change writes goes along in write. It costs the same number of round trips
// for one standing as for ten thousand.
func (s *Service) settle(ctx context.Context, tx pgx.Tx, changes deltas, by cause, now time.Time, write *pipeline) error {
	maps.DeleteFunc(changes, func(_ int64, d delta) bool { return d == delta{} })
	if len(changes) == 0 {
		return write.run(ctx, tx)
	}
	rows, err := lockStandings(ctx, tx, slices.Sorted(maps.Keys(changes)), now)
	if err != nil {
		return fmt.Errorf("lock standings: %w", err)
	}
	if len(rows) != len(changes) {
		return fmt.Errorf("%d of %d standings to move exist", len(rows), len(changes))
	}
	all := make([]moved, 0, len(rows))
	for _, row := range rows {
		all = append(all, apply(row, changes[row.Standing.ChapterNo], now))
	}
	return s.moveAll(ctx, tx, all, by, now, write)
}

// lockStandings locks standings and reads the policy that they are to be judged by. A standing that was judged by a newer
// revision while this waited for its lock is not taken back to an older one.
func lockStandings(ctx context.Context, tx pgx.Tx, chapterNos []int64, now time.Time) ([]db.StandingsForUpdateRow, error) {
	args := db.StandingsForUpdateParams{Now: now, AtLeast: 1, ChapterNos: chapterNos}
	rows, err := db.New(tx).StandingsForUpdate(ctx, args)
	if err != nil || len(rows) == 0 {
		return rows, err
	}
	for _, row := range rows {
		args.AtLeast = max(args.AtLeast, row.Standing.PolicyRevision)
	}
	if args.AtLeast <= rows[0].Policy.Revision {
		return rows, nil
	}
	return db.New(tx).StandingsForUpdate(ctx, args)
}

// moveAll writes standings as they are after a change, with what else the change writes, and tells whoever follows them.
func (s *Service) moveAll(ctx context.Context, tx pgx.Tx, all []moved, by cause, now time.Time, write *pipeline) error {
	moveStandings(write, all, by, now)
	if err := write.run(ctx, tx); err != nil {
		return fmt.Errorf("move %d standings: %w", len(all), err)
	}
	if err := s.announceStandings(ctx, tx, all); err != nil {
		return err
	}
	return s.moveChartersWith(ctx, tx, all, now)
}

func apply(row db.StandingsForUpdateRow, d delta, now time.Time) moved {
	after := row.Standing
	after.MembershipTotal += d.membership.total
	after.MembershipInternational += d.membership.international
	after.MailingTotal += d.mailing.total
	after.MailingInternational += d.mailing.international
	return moved{chapter: row.ChapterID, before: row.Standing, after: judged(after, row.Policy, now), policy: row.Policy}
}

// judged is a standing's next version, by the policy. Its time never goes back, whatever the clock of this process says.
func judged(row db.Standing, policy db.Policy, now time.Time) db.Standing {
	row.Eligible = judgeRow(policy, row).eligible
	row.PolicyRevision = policy.Revision
	row.Version++
	if now.After(row.UpdateTime) {
		row.UpdateTime = now
	}
	return row
}

func judgeRow(policy db.Policy, row db.Standing) verdict {
	return judge(policy,
		people{total: row.MembershipTotal, international: row.MembershipInternational},
		people{total: row.MailingTotal, international: row.MailingInternational})
}

func moveStandings(write *pipeline, all []moved, by cause, now time.Time) {
	args := db.MoveStandingsParams{PolicyRevision: all[0].policy.Revision, Cause: int16(by.kind), Now: now, ListNo: by.listNo}
	if by.listNo != nil {
		args.ListEpoch, args.ListVersion = &by.version.Epoch, &by.version.Number
	}
	for _, m := range all {
		args.ChapterNos = append(args.ChapterNos, m.after.ChapterNo)
		args.MembershipTotals = append(args.MembershipTotals, m.after.MembershipTotal)
		args.MembershipInternationals = append(args.MembershipInternationals, m.after.MembershipInternational)
		args.MailingTotals = append(args.MailingTotals, m.after.MailingTotal)
		args.MailingInternationals = append(args.MailingInternationals, m.after.MailingInternational)
		args.Eligibles = append(args.Eligibles, m.after.Eligible)
	}
	write.exec(db.MoveStandings, args.Cause, args.ListNo, args.ListEpoch, args.ListVersion, args.PolicyRevision, args.Now,
		args.ChapterNos, args.MembershipTotals, args.MembershipInternationals, args.MailingTotals, args.MailingInternationals,
		args.Eligibles)
}

// turns are members whose state begins to count, and those whose state ceases to.
type turns struct{ gain, lose []int64 }

// turn notes what a change of state does.
func (t *turns) turn(memberNo int64, before, after string) {
	switch {
	case before != active && after == active:
		t.gain = append(t.gain, memberNo)
	case before == active && after != active:
		t.lose = append(t.lose, memberNo)
	}
}

// changeStates lets members begin or cease to count: the people stay, the members among them change. The caller holds the
// members' rows; write is what changes in the register.
func (s *Service) changeStates(ctx context.Context, tx pgx.Tx, turning turns, now time.Time, write *pipeline) error {
	var find pipeline
	var come, gone []db.PresenceOfMembersRow
	find.exec(genericPlans)
	find.exec(db.LockTokensOfMembers, tokenLocks, slices.Concat(turning.gain, turning.lose))
	if len(turning.gain) > 0 {
		many(&find, &come, db.PresenceOfMembers, turning.gain)
	}
	if len(turning.lose) > 0 {
		many(&find, &gone, db.PresenceOfMembers, turning.lose)
	}
	if err := find.run(ctx, tx); err != nil {
		return fmt.Errorf("find the members' chapters: %w", err)
	}
	changes := deltas{}
	for _, row := range come {
		changes.add(row.ChapterNo, row.Basis, 0, row.Members)
	}
	for _, row := range gone {
		changes.add(row.ChapterNo, row.Basis, 0, -row.Members)
	}
	return s.settle(ctx, tx, changes, byRegister, now, write)
}

// changeTokens makes tokens known as members', or unknown again, or another member's, and moves the standings of every
// chapter that holds one of them: the people behind all tokens of the members are counted before and after. given are
// the tokens that are new, write is what changes in the register; the caller holds the members' rows.
func (s *Service) changeTokens(ctx context.Context, tx pgx.Tx, memberNos []int64, given [][]byte, now time.Time, write func(*pipeline)) error {
	held, err := db.New(tx).TokensOfMembers(ctx, memberNos)
	if err != nil {
		return fmt.Errorf("find the members' tokens: %w", err)
	}
	tokens := slices.Concat(held, given)
	var change pipeline
	var before, after []db.PeopleByTokensRow
	change.exec(genericPlans)
	change.exec(db.LockTokens, tokenLocks, buckets(tokens))
	many(&change, &before, db.PeopleByTokens, tokens)
	write(&change)
	many(&change, &after, db.PeopleByTokens, tokens)
	if err := change.run(ctx, tx); err != nil {
		return fmt.Errorf("change the members' tokens: %w", err)
	}
	changes := deltas{}
	changes.addPeople(before, -1)
	changes.addPeople(after, 1)
	return s.settle(ctx, tx, changes, byRegister, now, &pipeline{})
}

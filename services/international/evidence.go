package international

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
	"github.com/chapterhouse/chapterhouse/services/international/db"
)

// evidenceFormat is the layout of an evidence file.
const evidenceFormat = 1

// maxEvidenceRecords bounds an evidence file: so many records are about 12 MB.
const maxEvidenceRecords = 50_000

// ExportCharter gathers what a charter rests on, as of one moment.
func (s *Service) ExportCharter(ctx context.Context, req *internationalv1.ExportCharterRequest) (*internationalv1.CharterEvidence, error) {
	return snapshot(ctx, s, func(tx pgx.Tx) (*internationalv1.CharterEvidence, error) {
		charter, err := db.New(tx).ReadCharter(ctx, idOf(req.GetName()))
		if errors.Is(err, pgx.ErrNoRows) {
			return nil, rpc.NotFound(errorv1.Reason_REASON_NOT_FOUND, "there is no %s; the chapter has not applied", req.GetName())
		}
		if err != nil {
			return nil, err
		}
		evidence, err := gather(ctx, tx, charter, s.clock.Now())
		if err != nil {
			return nil, fmt.Errorf("gather the evidence of %s: %w", req.GetName(), err)
		}
		digest, err := canonicalDigest(evidence)
		return &internationalv1.CharterEvidence{Evidence: evidence, Digest: digest}, err
	})
}

func gather(ctx context.Context, tx pgx.Tx, row db.Charter, now time.Time) (*internationalv1.Evidence, error) {
	q := db.New(tx)
	charter, err := viewCharter(row)
	if err != nil {
		return nil, err
	}
	evidence := &internationalv1.Evidence{
		Format: evidenceFormat, ExportTime: timestamppb.New(now), Charter: charter.GetName(), Chapter: charter.GetChapter(),
		State: charter.GetState(), CharterEtag: charter.GetEtag(), ApplyTime: charter.GetApplyTime(), CureByTime: charter.GetCureByTime(),
	}
	if decision := charter.GetDecision(); decision != nil {
		evidence.Decision = &internationalv1.EvidenceDecision{
			Subject: decision.GetSubject(), DecideTime: decision.GetDecideTime(), Standing: decision.GetStanding(),
			PolicyRevision: decision.GetPolicyRevision(), NoteDigest: noteDigest(decision.GetNote()),
		}
	}
	if evidence.Transitions, err = evidenceTransitions(ctx, q, row); err != nil {
		return nil, err
	}
	if evidence.Standings, err = evidenceStandings(ctx, q, row, now); err != nil {
		return nil, err
	}
	if evidence.Explanation, err = explain(ctx, tx, row.ChapterID, now); err != nil {
		return nil, err
	}
	evidence.PolicyRevisions, err = evidencePolicies(ctx, q, evidence, now)
	return evidence, err
}

func evidenceTransitions(ctx context.Context, q *db.Queries, row db.Charter) ([]*internationalv1.EvidenceTransition, error) {
	rows, err := q.CharterTransitions(ctx, row.ChapterNo)
	if err != nil {
		return nil, err
	}
	transitions := make([]*internationalv1.EvidenceTransition, 0, len(rows))
	for _, h := range rows {
		full, err := viewTransition("charters/"+row.ChapterID, h)
		if err != nil {
			return nil, err
		}
		transitions = append(transitions, &internationalv1.EvidenceTransition{
			Number: h.Number, Verb: full.GetVerb(), FromState: full.GetFromState(), ToState: full.GetToState(), Subject: full.GetSubject(),
			CreateTime: full.GetCreateTime(), Standing: full.GetStanding(), PolicyRevision: full.GetPolicyRevision(),
			NoteDigest: noteDigest(full.GetNote()),
		})
	}
	return transitions, nil
}

func evidenceStandings(ctx context.Context, q *db.Queries, row db.Charter, now time.Time) ([]*internationalv1.StandingRecord, error) {
	rows, err := q.StandingHistoryAfter(ctx, db.StandingHistoryAfterParams{
		ChapterNo: row.ChapterNo, AfterTime: time.Unix(0, 0), StartTime: time.Unix(0, 0), EndTime: now.AddDate(100, 0, 0), Size: maxEvidenceRecords + 1,
	})
	if err != nil {
		return nil, err
	}
	if len(rows) > maxEvidenceRecords {
		return nil, rpc.Exhausted(errorv1.Reason_REASON_TOO_LARGE,
			"the standing of chapters/%s has more than %d records; list them page by page: chapters/%s/standing/history", row.ChapterID, maxEvidenceRecords, row.ChapterID).
			With("limit", maxEvidenceRecords)
	}
	policies, err := policiesByRevision(ctx, q)
	if err != nil {
		return nil, err
	}
	records := make([]*internationalv1.StandingRecord, 0, len(rows))
	for _, h := range rows {
		records = append(records, viewStandingRecord(row.ChapterID, h, policies))
	}
	return records, nil
}

// evidencePolicies are the revisions that the evidence names, and the one in force.
func evidencePolicies(ctx context.Context, q *db.Queries, evidence *internationalv1.Evidence, now time.Time) ([]*internationalv1.CharterPolicy, error) {
	book, err := readPolicies(ctx, q, now)
	if err != nil {
		return nil, err
	}
	named := map[string]bool{revision(book.inForce): true, evidence.GetExplanation().GetStanding().GetPolicyRevision(): true}
	if evidence.GetDecision() != nil {
		named[evidence.GetDecision().GetPolicyRevision()] = true
	}
	for _, transition := range evidence.GetTransitions() {
		named[transition.GetPolicyRevision()] = true
	}
	for _, record := range evidence.GetStandings() {
		named[record.GetStanding().GetPolicyRevision()] = true
	}
	rows, err := q.Policies(ctx)
	if err != nil {
		return nil, err
	}
	policies := []*internationalv1.CharterPolicy{}
	for _, row := range rows {
		if named[revision(row)] {
			policies = append(policies, book.view(row))
		}
	}
	return policies, nil
}

// noteDigest proves a note without showing it: notes are free text, and may name people.
func noteDigest(note string) string {
	if note == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(note))
	return hex.EncodeToString(sum[:])
}

// canonicalDigest is the SHA-256 of a message as the API's JSON, in the canonical form of RFC 8785.
func canonicalDigest(message proto.Message) (string, error) {
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(message)
	if err != nil {
		return "", err
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return "", err
	}
	sum := sha256.Sum256(appendCanonical(nil, value))
	return hex.EncodeToString(sum[:]), nil
}

// appendCanonical writes JSON as RFC 8785 has it: no spaces, members in the order of their names, nothing escaped that need
// not be. Numbers are copied: there are only integers, which have one form. Names are ASCII, so bytes are in the order of
// UTF-16 units.
func appendCanonical(out []byte, value any) []byte {
	switch v := value.(type) {
	case map[string]any:
		out = append(out, '{')
		for i, name := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(appendCanonicalString(out, name), ':')
			out = appendCanonical(out, v[name])
		}
		return append(out, '}')
	case []any:
		out = append(out, '[')
		for i, item := range v {
			if i > 0 {
				out = append(out, ',')
			}
			out = appendCanonical(out, item)
		}
		return append(out, ']')
	case string:
		return appendCanonicalString(out, v)
	case json.Number:
		return append(out, v...)
	case bool:
		return strconv.AppendBool(out, v)
	}
	return append(out, "null"...)
}

func appendCanonicalString(out []byte, text string) []byte {
	short := map[rune]string{'"': `\"`, '\\': `\\`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`}
	out = append(out, '"')
	for _, r := range text {
		escaped, has := short[r]
		switch {
		case has:
			out = append(out, escaped...)
		case r < ' ':
			out = fmt.Appendf(out, `\u%04x`, r)
		default:
			out = append(out, string(r)...)
		}
	}
	return append(out, '"')
}

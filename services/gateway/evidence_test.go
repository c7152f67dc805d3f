package gateway_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

// TestEvidenceIsAFileAndMayBeLarge answers with more than other answers may hold.
func TestEvidenceIsAFileAndMayBeLarge(t *testing.T) {
	t.Parallel()
	w := setup(t)
	records := make([]*internationalv1.EvidenceTransition, 80_000)
	for i := range records {
		records[i] = &internationalv1.EvidenceTransition{Number: int32(i + 1), Verb: "approve", NoteDigest: strings.Repeat("a", 64)}
	}
	on(w, internationalv1.CharterService_ExportCharter_FullMethodName, func(context.Context, *internationalv1.ExportCharterRequest) (*internationalv1.CharterEvidence, error) {
		return &internationalv1.CharterEvidence{Evidence: &internationalv1.Evidence{Charter: "charters/golang-paris", Transitions: records}}, nil
	})
	got := w.do(http.MethodGet, "/v1/charters/golang-paris:export", "", "Authorization: Bearer abc")
	if got.status != http.StatusOK || got.header.Get("Content-Disposition") != `attachment; filename="golang-paris-evidence.json"` || len(got.body) < 6<<20 {
		t.Errorf("%d %v, %d bytes", got.status, got.header, len(got.body))
	}
}

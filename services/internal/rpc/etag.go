package rpc

import (
	"context"
	"strings"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
)

// IfMatchHeader is the metadata in which the gateway hands on the If-Match header.
const IfMatchHeader = "if-match"

// IfMatch returns the etag that the If-Match header asks for, "" without one.
func IfMatch(ctx context.Context) string { return single(ctx, IfMatchHeader) }

// CheckEtag refuses with ABORTED when the given etag is not the present one; without one there is nothing to check.
// It takes the etag bare and as HTTP writes it: quoted, weak, several with commas between, "*" for any.
func CheckEtag(given, current string) error {
	if given == "" {
		return nil
	}
	for one := range strings.SplitSeq(given, ",") {
		one = strings.TrimPrefix(strings.TrimSpace(one), "W/")
		if one = strings.Trim(one, `"`); one == "*" || one == current {
			return nil
		}
	}
	return Aborted(errorv1.Reason_REASON_ETAG_MISMATCH, "this has changed since it was read; read it again, then decide again")
}

// CheckEtags checks the etag in the request's body and that of the If-Match header; where both are given, both must hold.
func CheckEtags(ctx context.Context, given, current string) error {
	if err := CheckEtag(given, current); err != nil {
		return err
	}
	return CheckEtag(IfMatch(ctx), current)
}

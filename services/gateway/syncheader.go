package gateway

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	localv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/local/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// syncParameters say what each parameter of an upload sets; what they return says what is wrong with the value.
var syncParameters = map[string]func(header *localv1.CreateSyncHeader, value string) string{
	"mode": func(header *localv1.CreateSyncHeader, value string) string {
		mode := localv1.Sync_Mode_value[value]
		if header.Mode = localv1.Sync_Mode(mode); mode == 0 {
			return "must be REPLACE or MERGE"
		}
		return ""
	},
	"source": func(header *localv1.CreateSyncHeader, value string) string {
		header.Source = value
		return ""
	},
	"apply": func(header *localv1.CreateSyncHeader, value string) string {
		apply, err := strconv.ParseBool(value)
		if header.Apply = apply; err != nil {
			return "must be true or false"
		}
		return ""
	},
	"confirmRemovals": func(header *localv1.CreateSyncHeader, value string) string {
		number, err := strconv.ParseInt(value, 10, 32)
		if err != nil || number < 0 {
			return "must be a whole number"
		}
		confirmed := int32(number)
		header.ConfirmRemovals = &confirmed
		return ""
	},
	"map.address": func(header *localv1.CreateSyncHeader, value string) string {
		header.MapAddress = value
		return ""
	},
	"map.displayName": func(header *localv1.CreateSyncHeader, value string) string {
		header.MapDisplayName = value
		return ""
	},
	"requestId": func(header *localv1.CreateSyncHeader, value string) string {
		if !idempotencyKey.MatchString(value) {
			return "must be 1 to 200 printable ASCII characters without spaces"
		}
		header.RequestId = value
		return ""
	},
}

// syncHeader makes an upload's first message of its parameters and headers.
func syncHeader(r *http.Request, parent, contentType string, values url.Values) (*localv1.CreateSyncHeader, error) {
	header := &localv1.CreateSyncHeader{Parent: parent, ContentType: contentType}
	header.RespondAsync, header.WaitSeconds = preferredAsync(r.Header)
	problems := setSyncParameters(header, values)
	for _, name := range []string{"mode", "source"} {
		if !values.Has(name) {
			problems.add(name, "is missing: mode and source are required")
		}
	}
	key := r.Header.Get(headerIdempotencyKey)
	if key != "" && values.Has("requestId") && header.GetRequestId() != key {
		problems.add("requestId", "differs from the Idempotency-Key")
	}
	if header.GetRequestId() == "" {
		header.RequestId = key
	}
	if err := problems.refusal(); err != nil {
		return nil, err
	}
	return header, rpc.Validate("", header)
}

func setSyncParameters(header *localv1.CreateSyncHeader, values url.Values) *complaints {
	problems := &complaints{}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch set := syncParameters[name]; {
		case set == nil:
			problems.add(name, unknownParameter(slices.Sorted(maps.Keys(syncParameters))))
		case len(values[name]) > 1:
			problems.add(name, "is given more than once")
		default:
			problems.add(name, set(header, values.Get(name)))
		}
	}
	return problems
}

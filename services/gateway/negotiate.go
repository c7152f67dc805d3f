package gateway

import (
	"errors"
	"mime"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"
)

const mediaNDJSON = "application/x-ndjson"

// wantedForm returns text/csv or application/x-ndjson where one of them is asked for by name, and empty for JSON, which
// is also what wildcards get.
func wantedForm(header http.Header) string {
	form, most := "", 0.0
	for _, value := range header.Values("Accept") {
		for _, offer := range splitList(value) {
			media, params, err := mime.ParseMediaType(offer)
			if err != nil || (media != mediaCSV && media != mediaNDJSON && media != mediaJSON) {
				continue
			}
			if q := qualityOf(params); q > most {
				form, most = media, q
			}
		}
	}
	if form == mediaJSON {
		return ""
	}
	return form
}

func qualityOf(params map[string]string) float64 {
	text, ok := params["q"]
	if !ok {
		return 1
	}
	q, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0
	}
	return q
}

// maxWaitSeconds is the longest that an upload's answer is held back for; more is clamped.
const maxWaitSeconds = 60

// preferredAsync reads respond-async and wait of RFC 7240. Preferences that are not known or not well-formed are
// ignored, and of one that is given twice the first counts, as it says in section 2.
func preferredAsync(header http.Header) (async bool, wait int32) {
	preferences := map[string]string{}
	for _, value := range header.Values("Prefer") {
		for _, preference := range splitList(value) {
			preference, _, _ = strings.Cut(preference, ";")
			name, text, _ := strings.Cut(preference, "=")
			name = textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name))
			if _, again := preferences[name]; !again {
				preferences[name] = strings.Trim(strings.TrimSpace(text), `"`)
			}
		}
	}
	if _, async = preferences["Respond-Async"]; !async {
		return false, 0
	}
	seconds, err := strconv.ParseUint(preferences["Wait"], 10, 31)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return true, 0
	}
	return true, int32(min(seconds, maxWaitSeconds))
}

// splitList parts a header's value at the commas that stand outside of quotes.
func splitList(value string) []string {
	var items []string
	quoted, start := false, 0
	for i := range len(value) {
		switch {
		case value[i] == '"':
			quoted = !quoted
		case value[i] == ',' && !quoted:
			items = append(items, strings.TrimSpace(value[start:i]))
			start = i + 1
		}
	}
	return append(items, strings.TrimSpace(value[start:]))
}

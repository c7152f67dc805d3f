package gateway

import (
	"bytes"
	"encoding/json"
	"regexp"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// marshaler writes zero and false always, and leaves out messages that are not set: null is not what the API's
// schemas say of them. It refuses unknown fields.
type marshaler struct{ *runtime.JSONPb }

func jsonMarshaler() marshaler {
	return marshaler{&runtime.JSONPb{MarshalOptions: protojson.MarshalOptions{EmitDefaultValues: true}}}
}

// Marshal takes out the spaces that protojson sets in some builds and not in others.
func (m marshaler) Marshal(v any) ([]byte, error) {
	text, err := m.JSONPb.Marshal(v)
	if err != nil {
		return nil, err
	}
	var compact bytes.Buffer
	compact.Grow(len(text) + 1)
	if err := json.Compact(&compact, text); err != nil {
		return nil, err
	}
	compact.WriteByte('\n')
	return compact.Bytes(), nil
}

// readJSON reads a body into a message of the request's. The generated code reads it again, and cannot say what is
// wrong with it other than by quoting it.
func readJSON(body []byte, message proto.Message) error {
	err := protojson.Unmarshal(body, message)
	if err == nil {
		return nil
	}
	return malformedJSON(err.Error())
}

var (
	jsonPosition = regexp.MustCompile(`\(line (\d+):(\d+)\)`)
	// What is quoted is a name only where it looks like one.
	jsonComplaints = map[*regexp.Regexp]string{
		regexp.MustCompile(`unknown field "([A-Za-z0-9_.]{1,64})"`):        "there is no such field",
		regexp.MustCompile(`duplicate field "([A-Za-z0-9_.]{1,64})"`):      "is given twice",
		regexp.MustCompile(`invalid value for \w+ field ([A-Za-z0-9_]+):`): "has a value of another type",
	}
)

// malformedJSON says what protojson's error does, without the values that it quotes: they can be addresses.
func malformedJSON(text string) error {
	at := ""
	if position := jsonPosition.FindStringSubmatch(text); position != nil {
		at = " (line " + position[1] + ", column " + position[2] + ")"
	}
	for pattern, description := range jsonComplaints {
		if field := pattern.FindStringSubmatch(text); field != nil {
			return rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, field[1], "%s%s", description, at)
		}
	}
	return rpc.Invalid(errorv1.Reason_REASON_MALFORMED_REQUEST, "", "the body is not the JSON that is expected%s", at)
}

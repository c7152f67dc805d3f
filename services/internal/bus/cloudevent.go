package bus

import (
	"fmt"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// envelope is an event in its wire form: CloudEvents 1.0, binary mode of the NATS protocol
// binding, with the distributed tracing extension and our own extensions aggregate, epoch,
// number, part and parts.
type envelope struct {
	id          uuid.UUID
	source      string
	subject     string // without the prefix ch.<tier>.<site>.
	typ         protoreflect.FullName
	time        time.Time
	aggregate   string
	version     Version
	part, parts int
	traceparent string
	data        []byte
}

const contentType = "application/protobuf"

// message is the envelope as a message of the given site.
func (e envelope) message(tier, site string) *nats.Msg {
	msg := nats.NewMsg(eventPrefix(tier, site) + e.subject)
	msg.Data = e.data
	set := func(name, value string) {
		if value != "" {
			msg.Header.Set("ce-"+name, percentEncode(value))
		}
	}
	msg.Header.Set(nats.MsgIdHdr, e.id.String())
	set("specversion", "1.0")
	set("id", e.id.String())
	set("source", e.source)
	set("type", string(e.typ))
	set("time", e.time.UTC().Format(time.RFC3339Nano))
	set("datacontenttype", contentType)
	set("traceparent", e.traceparent)
	if e.aggregate == "" {
		return msg
	}
	set("aggregate", e.aggregate)
	set("epoch", strconv.FormatInt(e.version.Epoch, 10))
	set("number", strconv.FormatInt(e.version.Number, 10))
	set("part", strconv.Itoa(e.part))
	set("parts", strconv.Itoa(e.parts))
	return msg
}

// decode reads the headers of a message from the given site. The data is not looked at.
func decode(subject string, header nats.Header, data []byte, tier, site string) (envelope, error) {
	h := attributes{values: make(map[string]string, len(header))}
	h.read(header)
	e := envelope{
		source:      h.required("source"),
		typ:         protoreflect.FullName(h.required("type")),
		aggregate:   h.values["aggregate"],
		traceparent: h.values["traceparent"],
		data:        data,
	}
	h.check("specversion", "1.0")
	h.check("datacontenttype", contentType)
	h.check("source", sourceOf(tier, site))
	e.id = parsed(&h, "id", uuid.Parse)
	e.time = parsed(&h, "time", func(s string) (time.Time, error) { return time.Parse(time.RFC3339Nano, s) })
	if e.aggregate != "" {
		e.version = Version{Epoch: parsed(&h, "epoch", parseInt), Number: parsed(&h, "number", parseInt)}
		e.part, e.parts = parsed(&h, "part", strconv.Atoi), parsed(&h, "parts", strconv.Atoi)
	} else {
		e.part, e.parts = 1, 1
	}
	rest, ours := strings.CutPrefix(subject, eventPrefix(tier, site))
	if !ours {
		h.fail(fmt.Errorf("subject %q is not one of %s/%s", subject, tier, site))
	}
	e.subject = rest
	if h.err == nil {
		h.err = e.event().check("")
	}
	return e, h.err
}

// event is the envelope without its data.
func (e envelope) event() Event {
	return Event{
		Subject: e.subject, Aggregate: e.aggregate, Kind: kindOf(e.subject), Version: e.version,
		Part: e.part, Parts: e.parts, ID: e.id, Time: e.time,
	}
}

// decodeData decodes data as the message type of that name, which has to be linked in.
func decodeData(typ protoreflect.FullName, data []byte) (proto.Message, error) {
	messageType, err := protoregistry.GlobalTypes.FindMessageByName(typ)
	if err != nil {
		return nil, fmt.Errorf("message type %s: %w", typ, err)
	}
	message := messageType.New().Interface()
	if err := proto.Unmarshal(data, message); err != nil {
		return nil, fmt.Errorf("decode %s: %w", typ, err)
	}
	return message, nil
}

// attributes are the CloudEvents attributes of a message and the first thing wrong with them.
type attributes struct {
	values map[string]string
	err    error
}

// read takes the ce- headers. Their names are case-insensitive, unlike nats.Header's.
func (a *attributes) read(header nats.Header) {
	for name, values := range header {
		attribute, found := strings.CutPrefix(textproto.CanonicalMIMEHeaderKey(name), "Ce-")
		if !found || len(values) == 0 {
			continue
		}
		value, err := percentDecode(values[0])
		if err != nil {
			a.fail(fmt.Errorf("header %s: %w", name, err))
		}
		a.values[lowerFirst(attribute)] = value
	}
}

func (a *attributes) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

func (a *attributes) required(name string) string {
	if a.values[name] == "" {
		a.fail(fmt.Errorf("header ce-%s is missing", name))
	}
	return a.values[name]
}

func (a *attributes) check(name, want string) {
	if got := a.values[name]; got != want {
		a.fail(fmt.Errorf("header ce-%s is %q, not %q", name, got, want))
	}
}

func parsed[T any](a *attributes, name string, parse func(string) (T, error)) T {
	value, err := parse(a.values[name])
	if err != nil {
		a.fail(fmt.Errorf("header ce-%s: %w", name, err))
	}
	return value
}

func parseInt(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }

// lowerFirst undoes what CanonicalMIMEHeaderKey does to a name of letters and digits.
func lowerFirst(s string) string {
	if s == "" || s[0] < 'A' || s[0] > 'Z' {
		return s
	}
	return string(s[0]-'A'+'a') + s[1:]
}

// percentEncode follows section 3.1.3.2 of the binding.
func percentEncode(value string) string {
	var b strings.Builder
	for i := range len(value) {
		if c := value[i]; c <= ' ' || c == '"' || c == '%' || c > '~' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

func percentDecode(value string) (string, error) {
	decoded, err := url.PathUnescape(unquote(value))
	if err != nil {
		return "", err
	}
	if !utf8.ValidString(decoded) {
		return "", fmt.Errorf("%q is not UTF-8", value)
	}
	return decoded, nil
}

// unquote resolves a quoted string of RFC 7230, which older producers send.
func unquote(value string) string {
	if len(value) < 2 || value[0] != '"' || value[len(value)-1] != '"' {
		return value
	}
	var b strings.Builder
	for i := 1; i < len(value)-1; i++ {
		if value[i] == '\\' && i < len(value)-2 {
			i++
		}
		b.WriteByte(value[i])
	}
	return b.String()
}

package connector

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

const (
	// answerLimit is about ten times what a page of 1,000 people takes.
	answerLimit = 32 << 20
	// callLimit is for the slowest call known: Mailman goes through a whole list to find who bounced.
	callLimit = 2 * time.Minute
	dialLimit = 10 * time.Second
)

// Policy is what the operator allows to the URLs that chapters set. The zero value is the strict one.
type Policy struct {
	// PlainHTTP allows http to other machines, where credentials and addresses can be read on the way. It is always
	// allowed on the loopback.
	PlainHTTP bool
	// Dial refuses, by an error, connections to places that chapters have no business at, such as the operator's own
	// network; nil allows all. It is asked with the resolved address. With it no HTTP proxy is used.
	Dial func(netip.AddrPort) error
	// Version is the program's, for the User-Agent.
	Version string
}

// Access is where a remote's API is and who asks.
type Access struct {
	Product            string // as the errors call it: "Mailman's REST API"
	URL                string
	Username, Password string
	Policy             Policy
}

// Client calls an HTTP API that answers in JSON.
type Client struct {
	access Access
	base   *url.URL
	http   *http.Client
}

// NewClient checks the URL and the credentials as far as that goes without a call.
func NewClient(access Access) (*Client, error) {
	base, err := parseBase(access)
	if err != nil {
		return nil, err
	}
	if access.Username == "" || access.Password == "" {
		return nil, Errorf(Credentials, SettingCredentials, "%s needs a user name and a password or token: set both", access.Product)
	}
	if access.Policy.Version == "" {
		access.Policy.Version = "unknown"
	}
	return &Client{access: access, base: base, http: &http.Client{
		Transport:     transport(access.Policy),
		Timeout:       callLimit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func parseBase(access Access) (*url.URL, error) {
	base, err := url.Parse(strings.TrimRight(strings.TrimSpace(access.URL), "/"))
	switch {
	case err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https":
		return nil, Errorf(WrongURL, SettingURL, "the URL is none: write it like https://lists.example.org")
	case base.User != nil:
		return nil, Errorf(WrongURL, SettingURL, "the URL contains credentials: set them as user name and password instead")
	case base.RawQuery != "" || base.Fragment != "":
		return nil, Errorf(WrongURL, SettingURL, "the URL has something behind a ? or #: leave that out")
	case base.Scheme == "http" && !access.Policy.PlainHTTP && !isLoopback(base.Hostname()):
		return nil, Errorf(WrongURL, SettingURL, "the URL begins with http:, which anybody on the way can read: use https:")
	}
	return base, nil
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

func transport(policy Policy) *http.Transport {
	dialer := &net.Dialer{Timeout: dialLimit}
	t := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         dialer.DialContext,
		TLSHandshakeTimeout: dialLimit,
		IdleConnTimeout:     dialLimit, // below the 75 s and more after which servers close
		MaxIdleConns:        2,
	}
	if policy.Dial != nil {
		t.Proxy = nil
		dialer.Control = func(_, address string, _ syscall.RawConn) error {
			to, err := netip.ParseAddrPort(address)
			if err != nil {
				return err
			}
			if err := policy.Dial(to); err != nil {
				return &notAllowed{err}
			}
			return nil
		}
	}
	return t
}

// Call is one request.
type Call struct {
	Method string
	Path   string // below the URL, escaped
	Query  url.Values
	Body   []byte
	Type   string // of the body
}

// Form is a call with a form as its body.
func Form(method, path string, form url.Values) Call {
	return Call{Method: method, Path: path, Body: []byte(form.Encode()), Type: "application/x-www-form-urlencoded"}
}

// JSON is a call with a JSON body.
func JSON(method, path string, body any) Call {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // of types of ours that JSON has no form for
	}
	return Call{Method: method, Path: path, Body: raw, Type: "application/json"}
}

// Answer is what an API said: a 2xx, or a 4xx that its caller knows what to make of.
type Answer struct {
	Status int
	Body   []byte // JSON, or empty
}

// OK says whether it is a 2xx.
func (a Answer) OK() bool { return a.Status/100 == 2 }

// Do makes the call. It is an error when nothing arrives, or not whole, or what arrives is no answer of an API: a web
// page, a redirect, a 5xx, 429 or 408.
func (c *Client) Do(ctx context.Context, call Call) (Answer, error) {
	request, err := http.NewRequestWithContext(ctx, call.Method, c.base.String()+call.Path, bytes.NewReader(call.Body))
	if err != nil {
		return Answer{}, c.unexpected()
	}
	request.URL.RawQuery = call.Query.Encode()
	request.SetBasicAuth(c.access.Username, c.access.Password)
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "chapterhouse/"+c.access.Policy.Version)
	if call.Type != "" {
		request.Header.Set("Content-Type", call.Type)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return Answer{}, c.transportError(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, answerLimit+1))
	if err != nil {
		return Answer{}, c.transportError(ctx, err)
	}
	if len(body) > answerLimit {
		return Answer{}, c.unexpected()
	}
	return c.judge(response, body)
}

func (c *Client) judge(response *http.Response, body []byte) (Answer, error) {
	status := response.StatusCode
	switch {
	case status/100 == 3:
		return Answer{}, c.redirected(response)
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout:
		return Answer{}, Errorf(Unreachable, "", "%s answered %d, it is asked too often or too busy", c.access.Product, status)
	case status >= 500:
		return Answer{}, Errorf(Unreachable, "", "%s answered %d, an error of its own; its log says more", c.access.Product, status)
	case status == http.StatusUnauthorized || status == http.StatusForbidden || len(bytes.TrimSpace(body)) == 0:
		return Answer{Status: status, Body: body}, nil
	case !json.Valid(body):
		return Answer{}, c.noJSON(body)
	}
	return Answer{Status: status, Body: body}, nil
}

// noJSON tells an answer that was cut off from one that never was JSON.
func (c *Client) noJSON(body []byte) error {
	if first := bytes.TrimSpace(body)[0]; first == '{' || first == '[' {
		return Errorf(Unreachable, "", "the answer of %s broke off", c.access.Product)
	}
	return Errorf(WrongURL, SettingURL, "a web page or something else came instead of JSON: set the URL to the address of %s, not to that of its web pages", c.access.Product)
}

// Decode reads an answer into a value. Names of fields that the value lacks are no error: newer versions have more.
func (c *Client) Decode(answer Answer, into any) error {
	if err := json.Unmarshal(answer.Body, into); err != nil {
		return Errorf(WrongURL, SettingURL, "the answer is not one that %s gives: check the URL", c.access.Product)
	}
	return nil
}

// Refused is the error for an answer that its caller knows nothing to make of.
func (c *Client) Refused(answer Answer) error {
	return Errorf(Unexpected, "", "%s answered %d to a call that it should know: check the URL and the version", c.access.Product, answer.Status)
}

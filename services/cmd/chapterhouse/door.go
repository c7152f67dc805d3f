package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/cenkalti/backoff/v5"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	errorv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/error/v1"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

const (
	dialTimeout = 10 * time.Second
	// answerTimeout is above what the gateway takes to plan before it answers 202, and to hold a follower's call.
	answerTimeout = 2 * time.Minute
	// problemBytes is more than any problem of ours has.
	problemBytes = 1 << 20

	firstPause   = 200 * time.Millisecond
	longestPause = 10 * time.Second
)

// door is the REST interface, as one person reaches it.
type door struct {
	// base is where it is now: a local platform that was started anew has another port.
	base   func(ctx context.Context) (string, error)
	tokens rpc.TokenSource
	client *http.Client
	// patience is for how long what may pass is tried again.
	patience time.Duration
	close    func()
}

// newClient follows no redirects: a POST would become a GET, and the token would go elsewhere.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:   dialTimeout,
			ResponseHeaderTimeout: answerTimeout,
			ForceAttemptHTTP2:     true,
			TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request is one call, which can be sent as often as it takes.
type request struct {
	method string
	path   string
	query  url.Values
	header http.Header
	body   func() io.ReadCloser // nil for none
}

// call sends a request until it is answered, and reads the answer.
func (d *door) call(ctx context.Context, r request, answer proto.Message) error {
	text, err := again(ctx, d.patience, func() ([]byte, error) { return d.read(ctx, r) })
	if err != nil {
		return err
	}
	return decode(r, text, answer)
}

// once sends a request once, and reads the answer.
func (d *door) once(ctx context.Context, r request, answer proto.Message) error {
	text, err := d.read(ctx, r)
	if err != nil {
		return err
	}
	return decode(r, text, answer)
}

func decode(r request, text []byte, answer proto.Message) error {
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, answer); err != nil {
		return fmt.Errorf("%s %s answered what is not a %s: %w", r.method, r.path, answer.ProtoReflect().Descriptor().Name(), err)
	}
	return nil
}

// read sends a request once and returns the body of the answer.
func (d *door) read(ctx context.Context, r request) ([]byte, error) {
	got, err := d.send(ctx, r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = got.Body.Close() }()
	text, err := io.ReadAll(got.Body)
	if err != nil {
		return nil, &url.Error{Op: r.method, URL: r.path, Err: err}
	}
	return text, nil
}

// open sends a request until its answer begins. The caller closes the body.
func (d *door) open(ctx context.Context, r request) (*http.Response, error) {
	return again(ctx, d.patience, func() (*http.Response, error) { return d.send(ctx, r) })
}

// send sends a request once. What is not an answer of 2xx is an error.
func (d *door) send(ctx context.Context, r request) (*http.Response, error) {
	base, err := d.base(ctx)
	if err != nil {
		return nil, err
	}
	token, err := d.tokens(ctx)
	if err != nil {
		return nil, err
	}
	address := base + r.path
	if len(r.query) > 0 {
		address += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, address, nil)
	if err != nil {
		return nil, err
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	req.Header.Set("User-Agent", "chapterhouse/"+version)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if r.body != nil {
		req.Body = r.body() // closed by Do, whatever happens
	}
	got, err := d.client.Do(req)
	if err != nil {
		return nil, err
	}
	if got.StatusCode/100 != 2 {
		defer func() { _ = got.Body.Close() }()
		return nil, refusalOf(got)
	}
	return got, nil
}

// refusal is an answer that is an error. It has the form in which the services' own clients see errors.
type refusal struct {
	*status.Status
	http       int
	retryAfter time.Duration
}

func (r *refusal) Error() string { return r.Message() }

// GRPCStatus is the error as the service gave it.
func (r *refusal) GRPCStatus() *status.Status { return r.Status }

// refusalOf reads a problem, or says what came instead of one: proxies have errors of their own.
func refusalOf(got *http.Response) *refusal {
	r := &refusal{http: got.StatusCode}
	if seconds, err := strconv.Atoi(got.Header.Get("Retry-After")); err == nil && seconds > 0 {
		r.retryAfter = time.Duration(seconds) * time.Second
	}
	problem := &spb.Status{}
	if media, _, _ := mime.ParseMediaType(got.Header.Get("Content-Type")); media == "application/problem+json" {
		text, _ := io.ReadAll(io.LimitReader(got.Body, problemBytes)) // a part of it is none
		if (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(text, problem) == nil && problem.GetCode() != 0 {
			r.Status = status.FromProto(problem)
			return r
		}
	}
	host := got.Request.URL.Host
	message := fmt.Sprintf("%s answered %s", host, got.Status)
	if location := got.Header.Get("Location"); location != "" {
		message = fmt.Sprintf("%s sends elsewhere, to %s: give that address", host, location)
	}
	r.Status = status.FromProto(&spb.Status{Code: int32(codeOf(got.StatusCode)), Message: message})
	return r
}

func codeOf(httpStatus int) codes.Code {
	switch httpStatus {
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	}
	return codes.Unknown
}

// again tries until it succeeds, until what fails will not pass, or until patience is over.
func again[T any](ctx context.Context, patience time.Duration, try func() (T, error)) (T, error) {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = firstPause, longestPause
	limit := backoff.WithMaxElapsedTime(patience)
	if patience <= 0 { // which backoff takes for no limit
		limit = backoff.WithMaxTries(1)
	}
	var last error
	result, err := backoff.Retry(ctx, func() (T, error) {
		result, err := try()
		if last = err; err != nil && !passes(err) {
			err = backoff.Permanent(err)
		} else if wait := waitOf(err); wait > 0 {
			err = &backoff.RetryAfterError{Duration: wait}
		}
		return result, err
	}, backoff.WithBackOff(pauses), limit)
	if err != nil && last != nil {
		err = last // and not that it should be tried again
	}
	return result, err
}

// passes says whether the same call can succeed later: nothing was answered, or that it should be sent again.
func passes(err error) bool {
	if r, ok := errors.AsType[*refusal](err); ok {
		switch r.http {
		case http.StatusRequestTimeout, http.StatusTooManyRequests,
			http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return rpc.Is(err, errorv1.Reason_REASON_IDEMPOTENCY_KEY_IN_USE)
	}
	_, sending := errors.AsType[*url.Error](err)
	_, untrusted := errors.AsType[*tls.CertificateVerificationError](err)
	_, unreadable := errors.AsType[*sourceError](err)
	return sending && !untrusted && !unreadable && !errors.Is(err, context.Canceled)
}

func waitOf(err error) time.Duration {
	if r, ok := errors.AsType[*refusal](err); ok {
		return r.retryAfter
	}
	return 0
}

package connector

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/url"
)

// notAllowed is the refusal of Policy.Dial.
type notAllowed struct{ error }

func (c *Client) unexpected() *Error {
	return Errorf(Unexpected, SettingURL, "%s answered in a way that is not known of it: check the URL and the version", c.access.Product)
}

// transportError drops the *url.Error around the cause: it holds the URL, and with it perhaps somebody's address.
func (c *Client) transportError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	var wrapped *url.Error
	timeout := errors.As(err, &wrapped) && wrapped.Timeout()
	if wrapped != nil {
		err = wrapped.Err
	}
	e := c.connectionError(err, timeout)
	e.cause = err
	return e
}

func (c *Client) connectionError(err error, timeout bool) *Error {
	host := c.base.Host
	var (
		refused     *notAllowed
		certificate *tls.CertificateVerificationError
		dns         *net.DNSError
	)
	switch {
	case errors.As(err, &refused):
		return Errorf(WrongURL, SettingURL, "connections to %s are not allowed from here: set another URL, or ask the site's operator", host)
	case errors.As(err, &certificate):
		return Errorf(WrongURL, SettingURL, "the certificate of %s is not valid: renew it, or set the URL to the name that it is for", host)
	case errors.Is(err, http.ErrSchemeMismatch):
		return Errorf(WrongURL, SettingURL, "%s does not speak https on that port: check the URL", host)
	case errors.As(err, &dns) && dns.IsNotFound:
		return Errorf(Unreachable, SettingURL, "there is no host of the name %s: check the URL, or wait until it is known", host)
	case timeout:
		return Errorf(Unreachable, "", "%s did not answer in time", host)
	}
	return Errorf(Unreachable, "", "no connection to %s, or it broke off", host)
}

// redirected names the host alone: what is behind it may hold a secret.
func (c *Client) redirected(response *http.Response) *Error {
	to, err := response.Location()
	if err != nil {
		return c.unexpected()
	}
	return Errorf(WrongURL, SettingURL, "%s redirects to %s://%s, where credentials are not sent on: set the URL to the address of %s itself",
		c.base.Host, to.Scheme, to.Host, c.access.Product)
}

package platform

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"google.golang.org/grpc"

	"github.com/chapterhouse/chapterhouse/services/internal/authz"
	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/rpc"
)

// Trust says whose tokens a server takes: those signed by a key of the JWKS file, or an OpenID Connect issuer's.
type Trust struct {
	JWKS         string `env:"CHAPTERHOUSE_JWKS" placeholder:"FILE" help:"Public keys of the tokens to accept."`
	OIDCIssuer   string `name:"oidc-issuer" env:"CHAPTERHOUSE_OIDC_ISSUER" placeholder:"URL" help:"Issuer of the tokens to accept, instead of a file."`
	OIDCAudience string `name:"oidc-audience" env:"CHAPTERHOUSE_OIDC_AUDIENCE" default:"chapterhouse" help:"What the issuer's tokens must say they are for."`
}

// Verifier reads the keys or asks the issuer.
func (t Trust) Verifier(ctx context.Context, c clock.Clock) (authz.Verifier, error) {
	switch {
	case t.JWKS != "" && t.OIDCIssuer != "":
		return nil, errors.New("either public keys or an issuer, not both")
	case t.JWKS != "":
		return authz.NewStaticVerifier(t.JWKS, c)
	case t.OIDCIssuer != "":
		return authz.NewOIDCVerifier(ctx, t.OIDCIssuer, t.OIDCAudience, c)
	}
	return nil, errors.New("whose tokens are to be accepted? Name the public keys or an issuer")
}

// Transport says how other services are reached. Plain text leaves this machine only where it is allowed to.
type Transport struct {
	PeerCA    string `name:"peer-ca" env:"CHAPTERHOUSE_PEER_CA" placeholder:"FILE" help:"Certificates that the other services' are checked by; TLS is used then."`
	PeerTLS   bool   `name:"peer-tls" env:"CHAPTERHOUSE_PEER_TLS" help:"Reach the other services by TLS, with the system's certificates."`
	Plaintext bool   `env:"CHAPTERHOUSE_PLAINTEXT" help:"Reach services on other machines without TLS, where the network encrypts."`
}

// Dial connects to another service.
func (t Transport) Dial(address string, tokens rpc.TokenSource, tracing bool) (*grpc.ClientConn, error) {
	var options []rpc.DialOption
	if t.PeerTLS || t.PeerCA != "" {
		config, err := t.tls()
		if err != nil {
			return nil, err
		}
		options = append(options, rpc.WithTLS(config))
	}
	if t.Plaintext {
		options = append(options, rpc.WithPlaintext())
	}
	if tracing {
		options = append(options, rpc.WithTracing())
	}
	return rpc.Dial(address, tokens, options...)
}

func (t Transport) tls() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.PeerCA == "" {
		return config, nil
	}
	text, err := os.ReadFile(t.PeerCA)
	if err != nil {
		return nil, err
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate", t.PeerCA)
	}
	return config, nil
}

// ServerTLS reads a server's certificate; nil without one.
func ServerTLS(certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" && keyFile == "" {
		return nil, nil //nolint:nilnil // plain text
	}
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("certificate of the server: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{certificate}}, nil
}

package mail_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	netmail "net/mail"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/clock"
	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
)

const patience = 20 * time.Second

var now = time.Date(2026, 11, 23, 18, 33, 21, 0, time.UTC)

func startSink(t *testing.T, config mailsink.Config) *mailsink.Sink {
	t.Helper()
	sink, err := mailsink.Start(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sink.Close() })
	return sink
}

func newMailer(t *testing.T, config mail.Config) *mail.Mailer {
	t.Helper()
	if config.From == "" {
		config.From = "Chapterhouse <site@chapterhouse.example>"
	}
	if config.Timeout == 0 {
		config.Timeout = patience
	}
	mailer, err := mail.New(config, clock.NewFake(now))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		mailer.Close(ctx)
	})
	return mailer
}

// world is a sink, and a mailer that hands its mail to it.
func world(t *testing.T, change ...func(*mail.Config)) (*mailsink.Sink, *mail.Mailer) {
	t.Helper()
	sink := startSink(t, mailsink.Config{})
	config := mail.Config{SMTP: "smtp://" + sink.Addr()}
	for _, one := range change {
		one(&config)
	}
	return sink, newMailer(t, config)
}

func to(address string) mail.Message {
	return mail.Message{To: netmail.Address{Address: address}, Subject: "Please confirm", Text: "Hello"}
}

func send(t *testing.T, mailer *mail.Mailer, message mail.Message) {
	t.Helper()
	if err := mailer.Send(t.Context(), message); err != nil {
		t.Fatal(err)
	}
}

// only is the one mail that arrived.
func only(t *testing.T, sink *mailsink.Sink) mailsink.Message {
	t.Helper()
	kept := sink.Messages()
	if len(kept) != 1 {
		t.Fatalf("%d mails arrived, want 1", len(kept))
	}
	return kept[0]
}

// failure is why a mail was not sent. It must name nobody.
func failure(t *testing.T, err error, want mail.Kind) mail.Error {
	t.Helper()
	failed, ok := errors.AsType[*mail.Error](err)
	if !ok {
		t.Fatalf("error %v, want a *mail.Error", err)
	}
	if failed.Kind != want || mail.KindOf(err) != want {
		t.Fatalf("%v: %v, want %v", err, failed.Kind, want)
	}
	if strings.Contains(err.Error(), "@") {
		t.Errorf("the error has an address: %v", err)
	}
	return *failed
}

// certificate is a self-made one for this machine, and the file that has others trust it.
func certificate(t *testing.T, name string) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	if ip := net.ParseIP(name); ip != nil {
		template.IPAddresses = []net.IP{ip}
	} else {
		template.DNSNames = []string{name}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file := write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12}, file
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

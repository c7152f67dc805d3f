package mail_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/mail"
	"github.com/chapterhouse/chapterhouse/services/internal/mailsink"
)

func TestFailures(t *testing.T) {
	t.Parallel()
	const ada = "ada@example.org"
	cases := []struct {
		name    string
		fault   mailsink.Fault
		from    string // the fault is the sender's
		kind    mail.Kind
		at      string
		code    int
		status  string
		bounce  bool
		arrives int
	}{
		{name: "UnknownRecipientIsABounce", fault: mailsink.Fault{At: mailsink.Recipient, Code: 550, Status: [3]int{5, 1, 1}}, kind: mail.Permanent, at: "RCPT", code: 550, status: "5.1.1", bounce: true},
		{name: "A550WithoutReasonIsABounce", fault: mailsink.Fault{At: mailsink.Recipient, Code: 550}, kind: mail.Permanent, at: "RCPT", code: 550, status: "5.0.0", bounce: true},
		{name: "PolicyIsNoBounce", fault: mailsink.Fault{At: mailsink.Recipient, Code: 554, Status: [3]int{5, 7, 1}}, kind: mail.Permanent, at: "RCPT", code: 554, status: "5.7.1"},
		{name: "FullMailboxIsNoBounce", fault: mailsink.Fault{At: mailsink.Recipient, Code: 552, Status: [3]int{5, 2, 2}}, kind: mail.Permanent, at: "RCPT", code: 552, status: "5.2.2"},
		{name: "GreylistingIsTemporary", fault: mailsink.Fault{At: mailsink.Recipient, Code: 451, Status: [3]int{4, 7, 1}}, kind: mail.Temporary, at: "RCPT", code: 451, status: "4.7.1"},
		{name: "SpamIsPermanentAndNoBounce", fault: mailsink.Fault{At: mailsink.Content, Code: 554, Status: [3]int{5, 7, 1}}, kind: mail.Permanent, at: "end of DATA", code: 554, status: "5.7.1"},
		{name: "LateUnknownRecipientIsABounce", fault: mailsink.Fault{At: mailsink.Content, Code: 550, Status: [3]int{5, 1, 1}}, kind: mail.Permanent, at: "end of DATA", code: 550, status: "5.1.1", bounce: true},
		{name: "FullDiskIsTemporary", fault: mailsink.Fault{At: mailsink.Content, Code: 452, Status: [3]int{4, 3, 1}}, kind: mail.Temporary, at: "end of DATA", code: 452, status: "4.3.1"},
		{name: "OurSenderRefusedIsTemporary", from: "site@chapterhouse.example", fault: mailsink.Fault{At: mailsink.Sender, Code: 553, Status: [3]int{5, 7, 1}}, kind: mail.Temporary, at: "MAIL", code: 553, status: "5.7.1"},
		{name: "CutBeforeTheMailIsTemporary", fault: mailsink.Fault{At: mailsink.Recipient, Cut: true}, kind: mail.Temporary, at: "RCPT"},
		{name: "CutAfterTheMailIsUncertain", fault: mailsink.Fault{At: mailsink.Content, Cut: true}, kind: mail.Uncertain, at: "end of DATA"},
		{name: "CutAfterItWasKeptIsUncertainToo", fault: mailsink.Fault{At: mailsink.Content, Cut: true, Keep: true}, kind: mail.Uncertain, at: "end of DATA", arrives: 1},
	}
	for _, test := range cases {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			sink, mailer := world(t)
			address := ada
			if test.from != "" {
				address = test.from
			}
			sink.Inject(address, test.fault)
			failed := failure(t, mailer.Send(t.Context(), to(ada)), test.kind)
			if failed.At != test.at || failed.Code != test.code || failed.Status != test.status || failed.Bounce() != test.bounce {
				t.Errorf("%v: at %s, code %d, status %s, bounce %v", failed, failed.At, failed.Code, failed.Status, failed.Bounce())
			}
			if kept := sink.Messages(); len(kept) != test.arrives {
				t.Errorf("%d mails arrived, want %d", len(kept), test.arrives)
			}
			sink.Heal()
			send(t, mailer, to(ada))
			if kept := sink.Messages(); len(kept) != test.arrives+1 {
				t.Errorf("%d mails after the next one, want %d", len(kept), test.arrives+1)
			}
		})
	}
}

// scripted is a server that gives these answers and then has the rest of the connection handled. It returns its address.
func scripted(t *testing.T, then func(*textproto.Conn), answers ...string) string {
	t.Helper()
	var config net.ListenConfig
	lis, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lis.Close() })
	go func() {
		conn, err := lis.Accept()
		if err != nil {
			return
		}
		text := textproto.NewConn(conn)
		defer func() { _ = text.Close() }()
		_ = text.PrintfLine("220 ready")
		for _, answer := range answers {
			_, _ = text.ReadLine()
			_ = text.PrintfLine("%s", answer)
		}
		then(text)
	}()
	return lis.Addr().String()
}

// Half a mail is never sent by a server, so that it can be tried again; but to take leave politely would end it.
func TestHalfAMailIsTemporaryAndNeverEnded(t *testing.T) {
	t.Parallel()
	begun, givenUp, heard := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	address := scripted(t, func(text *textproto.Conn) {
		_, _ = text.R.Peek(1)
		close(begun)
		<-givenUp
		all, _ := io.ReadAll(text.R)
		heard <- string(all)
	}, "250 hello", "250 sender", "250 recipient", "354 go on")
	mailer := newMailer(t, mail.Config{SMTP: "smtp://" + address})
	message := to("ada@example.org")
	message.Text = strings.Repeat("All work and no play makes Jack a dull boy.\n", 200_000)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-begun
		cancel()
	}()
	failed := failure(t, mailer.Send(ctx, message), mail.Temporary)
	close(givenUp)
	all := <-heard
	if failed.At != "DATA" || !strings.Contains(all, "dull boy") || strings.Contains(all, "\r\n.\r\n") {
		t.Errorf("%v, the server heard %d bytes", failed.Error(), len(all))
	}
}

func TestAMailThatWasTakenIsSentWhateverComesAfter(t *testing.T) {
	t.Parallel()
	address := scripted(t, func(text *textproto.Conn) {
		_, _ = text.ReadDotBytes()
		_ = text.PrintfLine("250 taken")
	}, "250 hello", "250 sender", "250 recipient", "354 go on")
	send(t, newMailer(t, mail.Config{SMTP: "smtp://" + address}), to("ada@example.org"))
}

func TestNobodyThereIsTemporary(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	lis, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	mailer := newMailer(t, mail.Config{SMTP: "smtp://" + lis.Addr().String()})
	if err := lis.Close(); err != nil {
		t.Fatal(err)
	}
	if failed := failure(t, mailer.Send(t.Context(), to("ada@example.org")), mail.Temporary); failed.At != "connect" {
		t.Errorf("at %s", failed.At)
	}
}

func TestSilenceEnds(t *testing.T) {
	t.Parallel()

	t.Run("UncertainWhenItComesAfterTheMail", func(t *testing.T) {
		t.Parallel()
		sink, mailer := world(t, func(c *mail.Config) { c.Timeout = 300 * time.Millisecond })
		sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Content, Until: make(chan struct{})})
		failure(t, mailer.Send(t.Context(), to("ada@example.org")), mail.Uncertain)
	})

	t.Run("TemporaryWhenNobodyGreets", func(t *testing.T) {
		t.Parallel()
		var config net.ListenConfig
		lis, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = lis.Close() }()
		mailer := newMailer(t, mail.Config{SMTP: "smtp://" + lis.Addr().String(), Timeout: 300 * time.Millisecond})
		failure(t, mailer.Send(t.Context(), to("ada@example.org")), mail.Temporary)
	})
}

func TestCallerGoesAway(t *testing.T) {
	t.Parallel()

	t.Run("WhileTheServerThinks", func(t *testing.T) {
		t.Parallel()
		sink, mailer := world(t)
		thinking := make(chan struct{})
		sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Content, Until: thinking, Keep: true})
		ctx, cancel := context.WithCancel(t.Context())
		sent := make(chan error, 1)
		go func() { sent <- mailer.Send(ctx, to("ada@example.org")) }()
		if _, err := sink.Wait(t.Context(), func(kept []mailsink.Message) bool { return len(kept) == 1 }); err != nil {
			t.Fatal(err)
		}
		cancel()
		err := <-sent
		failure(t, err, mail.Uncertain)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v does not say who ended it", err)
		}
		close(thinking)
	})

	t.Run("WhileItWaitsForAConnection", func(t *testing.T) {
		t.Parallel()
		sink, mailer := world(t, func(c *mail.Config) { c.Connections = 1 })
		thinking := make(chan struct{})
		sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Content, Until: thinking, Keep: true})
		first := make(chan error, 1)
		go func() { first <- mailer.Send(t.Context(), to("ada@example.org")) }()
		if _, err := sink.Wait(t.Context(), func(kept []mailsink.Message) bool { return len(kept) == 1 }); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		failure(t, mailer.Send(ctx, to("bob@example.org")), mail.Temporary)
		close(thinking)
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

func TestCloseCutsWhatItCannotWaitFor(t *testing.T) {
	t.Parallel()
	sink, mailer := world(t)
	sink.Inject("ada@example.org", mailsink.Fault{At: mailsink.Content, Until: make(chan struct{}), Keep: true})
	sent := make(chan error, 1)
	go func() { sent <- mailer.Send(context.Background(), to("ada@example.org")) }()
	if _, err := sink.Wait(t.Context(), func(kept []mailsink.Message) bool { return len(kept) == 1 }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	mailer.Close(ctx)
	failure(t, <-sent, mail.Uncertain)
	failure(t, mailer.Send(t.Context(), to("ada@example.org")), mail.Temporary)
}

func TestWithoutAServer(t *testing.T) {
	t.Parallel()
	var none *mail.Mailer
	for name, mailer := range map[string]*mail.Mailer{"Nil": none, "Unconfigured": newMailer(t, mail.Config{})} {
		t.Run(name, func(t *testing.T) {
			err := mailer.Send(t.Context(), to("ada@example.org"))
			failure(t, err, mail.Temporary)
			if !errors.Is(err, mail.ErrNotConfigured) || mailer.Configured() {
				t.Errorf("%v, configured %v", err, mailer.Configured())
			}
		})
	}
}

func TestAddressesBeyondASCIINeedAServerThatTakesThem(t *testing.T) {
	t.Parallel()
	sink := startSink(t, mailsink.Config{ASCII: true})
	mailer := newMailer(t, mail.Config{SMTP: "smtp://" + sink.Addr()})
	failed := failure(t, mailer.Send(t.Context(), to("андрей@example.org")), mail.Permanent)
	if failed.Status != "5.6.7" || failed.Bounce() {
		t.Errorf("%v, bounce %v", failed, failed.Bounce())
	}
	send(t, mailer, to("ada@example.org"))
}

// pipelining is what a server says that takes commands in one go (RFC 2920).
const pipelining = "250-hello\r\n250-ENHANCEDSTATUSCODES\r\n250 PIPELINING"

func TestCommandsAreSaidInOneGoWhereTheServerTakesThat(t *testing.T) {
	t.Parallel()
	heard := make(chan []string, 1)
	address := scripted(t, func(text *textproto.Conn) {
		var lines []string
		for range 3 { // answers none before it has heard all
			line, _ := text.ReadLine()
			lines = append(lines, line)
		}
		heard <- lines
		_ = text.PrintfLine("250 sender\r\n250 recipient\r\n354 go on")
		_, _ = text.ReadDotBytes()
		_ = text.PrintfLine("250 taken")
	}, pipelining)
	send(t, newMailer(t, mail.Config{SMTP: "smtp://" + address}), to("ada@example.org"))
	if got := strings.Join(<-heard, ", "); got != "MAIL FROM:<site@chapterhouse.example>, RCPT TO:<ada@example.org>, DATA" {
		t.Errorf("the server heard %s", got)
	}
}

// A server may wait for the mail although it has refused the only recipient. It gets none, not even an empty one.
func TestARefusedRecipientIsRefusedWhateverIsSaidOfTheMail(t *testing.T) {
	t.Parallel()
	heard := make(chan string, 1)
	address := scripted(t, func(text *textproto.Conn) {
		all, _ := io.ReadAll(text.R)
		heard <- string(all)
	}, pipelining, "250 sender", "550 5.1.1 nobody has this address", "354 go on")
	failed := failure(t, newMailer(t, mail.Config{SMTP: "smtp://" + address}).Send(t.Context(), to("ada@example.org")), mail.Permanent)
	if failed.At != "RCPT" || failed.Code != 550 || failed.Status != "5.1.1" || !failed.Bounce() {
		t.Errorf("%v", failed.Error())
	}
	if all := <-heard; all != "" {
		t.Errorf("the server heard %q after it had refused", all)
	}
}

// Refused at once, all of it: the sender's refusal is what counts, and it is no verdict on the recipient.
func TestARefusedSenderIsNoBounce(t *testing.T) {
	t.Parallel()
	address := scripted(t, func(*textproto.Conn) {}, pipelining, "553 5.7.1 who are you", "503 no sender", "503 no recipient")
	failed := failure(t, newMailer(t, mail.Config{SMTP: "smtp://" + address}).Send(t.Context(), to("ada@example.org")), mail.Temporary)
	if failed.At != "MAIL" || failed.Code != 553 || failed.Bounce() {
		t.Errorf("%v", failed.Error())
	}
}

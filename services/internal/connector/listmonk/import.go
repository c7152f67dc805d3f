package listmonk

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/csv"
	"encoding/json"
	"mime/multipart"
	"net/http"
	"slices"
	"time"

	"github.com/chapterhouse/chapterhouse/services/internal/connector"
)

const (
	// rowsAtOnce: an import of 100,000 rows takes listmonk half a minute.
	rowsAtOnce = 20_000
	// importLimit is how long one import may take.
	importLimit = 10 * time.Minute
	// askAgain is how often an import is asked whether it is done.
	askAgain = 200 * time.Millisecond
)

const importPath = "/api/import/subscribers"

// importAll adds people by imports that overwrite nothing: an import cannot subscribe anybody again who left, not
// even between our look at the list and now. It says nothing of single rows, so the list is read once more.
func (p *push) importAll(ctx context.Context, additions []connector.Change) error {
	if len(additions) == 0 {
		return nil
	}
	for some := range slices.Chunk(additions, rowsAtOnce) {
		if err := p.importSome(ctx, some); err != nil {
			return err
		}
	}
	now, err := p.entries(ctx)
	if err != nil {
		return err
	}
	for _, change := range additions {
		switch e, found := now[change.Address]; {
		case !found:
			p.reject(change)
		case e.state == connector.Subscribed:
			p.result.Added++
		default:
			p.suppress(change, e.state)
		}
	}
	return nil
}

func (p *push) importSome(ctx context.Context, additions []connector.Change) error {
	ctx, cancel := context.WithTimeoutCause(ctx, importLimit,
		connector.Errorf(connector.Busy, "", "listmonk's import was not done within %s", importLimit))
	defer cancel()
	if now, err := p.progress(ctx); err != nil {
		return err
	} else if now.running() {
		return importRunning()
	}
	name := "chapterhouse-" + rand.Text() + ".csv"
	answer, err := p.client.Do(ctx, upload(name, p.id, additions))
	switch {
	case err != nil:
		return err
	case answer.Status == http.StatusForbidden:
		return p.noRight("subscribers:import, and list:manage of the list")
	case answer.Status == http.StatusBadRequest: // as when another import began just now
		return importRunning()
	case !answer.OK():
		return p.client.Refused(answer)
	}
	return p.await(ctx, name)
}

func importRunning() error {
	return connector.Errorf(connector.Busy, "", "listmonk is importing something else, and does one import at a time")
}

// await waits for the end of our import. Another one can only have begun after it.
func (p *push) await(ctx context.Context, name string) error {
	for {
		now, err := p.progress(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return err
		case now.Name != name:
			return nil
		case now.Status == "failed":
			return connector.Errorf(connector.Unreachable, "", "listmonk's import failed; its log says more")
		case !now.running():
			return nil
		}
		select {
		case <-time.After(askAgain):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// progress of the instance's import.
type progress struct {
	Name   string `json:"name"`
	Status string `json:"status"`
}

func (p progress) running() bool { return p.Status == "importing" || p.Status == "stopping" }

func (p *push) progress(ctx context.Context) (progress, error) {
	var now struct {
		Data progress `json:"data"`
	}
	err := p.call(ctx, connector.Call{Method: http.MethodGet, Path: importPath}, "subscribers:import", &now)
	return now.Data, err
}

func upload(name string, list int, additions []connector.Change) connector.Call {
	params, err := json.Marshal(map[string]any{
		"mode": "subscribe", "subscription_status": confirmed, "delim": ",", "lists": []int{list},
		"overwrite": false, "overwrite_userinfo": false, "overwrite_subscription_status": false,
	})
	if err != nil {
		panic(err) // of constants
	}
	var body bytes.Buffer // takes all writes
	form := multipart.NewWriter(&body)
	_ = form.WriteField("params", string(params))
	file, _ := form.CreateFormFile("file", name)
	rows := csv.NewWriter(file)
	_ = rows.Write([]string{"email", "name"})
	for _, change := range additions {
		_ = rows.Write([]string{change.Address, change.DisplayName})
	}
	rows.Flush()
	_ = form.Close()
	return connector.Call{Method: http.MethodPost, Path: importPath, Body: body.Bytes(), Type: form.FormDataContentType()}
}

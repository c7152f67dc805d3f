package main

import (
	"bytes"
	"encoding/json"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

// evidenceBytes is room for the longest history.
const evidenceBytes = 16 << 20

type charterExportCommand struct {
	operator

	Chapter string `arg:"" help:"The chapter's id."`
}

// Run prints the evidence as the REST API gives it.
func (c *charterExportCommand) Run(a *app) error {
	conn, done, err := c.connect(a, staff)
	if err != nil {
		return err
	}
	defer done()
	evidence, err := internationalv1.NewCharterServiceClient(conn).ExportCharter(a.ctx,
		&internationalv1.ExportCharterRequest{Name: "charters/" + chapterID(c.Chapter)}, grpc.MaxCallRecvMsgSize(evidenceBytes))
	if err != nil {
		return err
	}
	text, err := protojson.MarshalOptions{EmitDefaultValues: true}.Marshal(evidence)
	if err != nil {
		return err
	}
	var compact bytes.Buffer // protojson sets spaces in some builds and not in others
	if err := json.Compact(&compact, text); err != nil {
		return err
	}
	compact.WriteByte('\n')
	_, err = a.stdout.Write(compact.Bytes())
	return err
}

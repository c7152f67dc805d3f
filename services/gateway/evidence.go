package gateway

import (
	"context"
	"net/http"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	internationalv1 "github.com/chapterhouse/chapterhouse/gen/chapterhouse/international/v1"
)

// roomyCharters takes evidence that is larger than other answers.
type roomyCharters struct {
	internationalv1.CharterServiceClient
}

// ExportCharter takes as much as an export.
func (c roomyCharters) ExportCharter(ctx context.Context, in *internationalv1.ExportCharterRequest, opts ...grpc.CallOption) (*internationalv1.CharterEvidence, error) {
	return c.CharterServiceClient.ExportCharter(ctx, in, append(opts, grpc.MaxCallRecvMsgSize(exportMessageBytes))...)
}

// setFile lets a browser keep evidence as a file.
func setFile(_ context.Context, w http.ResponseWriter, message proto.Message) error {
	if file, ok := message.(*internationalv1.CharterEvidence); ok {
		id := strings.TrimPrefix(file.GetEvidence().GetCharter(), "charters/")
		w.Header().Set("Content-Disposition", `attachment; filename="`+id+`-evidence.json"`)
	}
	return nil
}

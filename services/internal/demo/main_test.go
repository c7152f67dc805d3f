package demo

import (
	"testing"

	"github.com/chapterhouse/chapterhouse/services/internal/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

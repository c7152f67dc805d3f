package main

import (
	"io"
	"log/slog"
)

// logging is the flags of the commands that run services.
type logging struct {
	LogLevel  slog.Level `default:"${log_level}" env:"CHAPTERHOUSE_LOG_LEVEL" help:"Least level to log: debug, info, warn, error."`
	LogFormat string     `enum:"text,json" default:"text" env:"CHAPTERHOUSE_LOG_FORMAT" help:"Form of the log: ${enum}."`
}

func (l logging) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.LogLevel}
	if l.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

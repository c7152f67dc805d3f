package bus

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Several publishers and consumers share a process and a registry, so each metric is one family
// with the labels tier, site and, on the consuming side, source ("local/main").

type publisherMetrics struct {
	published   prometheus.Counter
	failed      prometheus.Counter
	replays     *prometheus.CounterVec
	unpublished prometheus.Gauge
}

func newPublisherMetrics(registerer prometheus.Registerer, tier, site string) publisherMetrics {
	own := prometheus.Labels{"tier": tier, "site": site}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return registered(registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "chapterhouse", Subsystem: "bus", Name: name, Help: help,
		}, append([]string{"tier", "site"}, labels...)))
	}
	unpublished := registered(registerer, prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Namespace: "chapterhouse", Subsystem: "bus", Name: "outbox_unpublished",
		Help: "Events in the outbox that JetStream has not confirmed.",
	}, []string{"tier", "site"}))
	return publisherMetrics{
		published: counter("published_total", "Events that JetStream confirmed.").With(own),
		failed:    counter("publish_failures_total", "Attempts to publish an event that failed.").With(own),
		replays: counter("replays_total",
			"Times the outbox was published again: stream made anew, stream rewound, database restored.", "reason").MustCurryWith(own),
		unpublished: unpublished.With(own),
	}
}

type consumerMetrics struct {
	applied     *prometheus.CounterVec // by kind
	ignored     *prometheus.CounterVec // by reason: duplicate, old, kind
	parked      prometheus.Counter
	snapshots   *prometheus.CounterVec // by result: replaced, gone, old, failed
	deadLetters prometheus.Counter
	differences prometheus.Counter
	latency     prometheus.Observer
}

func newConsumerMetrics(registerer prometheus.Registerer, tier, site, source string) consumerMetrics {
	names := []string{"tier", "site", "source"}
	own := prometheus.Labels{"tier": tier, "site": site, "source": source}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return registered(registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "chapterhouse", Subsystem: "bus", Name: name, Help: help,
		}, append(names[:3:3], labels...))).MustCurryWith(own)
	}
	latency := registered(registerer, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: "chapterhouse", Subsystem: "bus", Name: "consume_latency_seconds",
		Help:    "From the writing of an event to the commit of the transaction that applied it.",
		Buckets: prometheus.ExponentialBuckets(0.002, 2, 16), // 2 ms to 65 s
	}, names))
	return consumerMetrics{
		applied:     counter("applied_total", "Events applied.", "kind"),
		ignored:     counter("ignored_total", "Events ignored: delivered before, older than the copy, or of a kind without a topic.", "reason"),
		parked:      counter("parked_total", "Events set aside until those before them, or their other parts, arrive.").WithLabelValues(),
		snapshots:   counter("snapshots_total", "Snapshots asked for, by what came of it.", "result"),
		deadLetters: counter("dead_letters_total", "Events that could not be consumed.").WithLabelValues(),
		differences: counter("differences_total", "Aggregates whose version differed from the owner's when compared.").WithLabelValues(),
		latency:     latency.With(own),
	}
}

// registered registers a collector, or returns the equal one that is registered already.
func registered[C prometheus.Collector](registerer prometheus.Registerer, collector C) C {
	if registerer == nil {
		return collector
	}
	err := registerer.Register(collector)
	if existing, found := errors.AsType[prometheus.AlreadyRegisteredError](err); found {
		if same, ok := existing.ExistingCollector.(C); ok {
			return same
		}
	}
	if err != nil {
		panic(err) // two metrics of one name and different labels: a mistake in this file
	}
	return collector
}

func newAnswerMetric(registerer prometheus.Registerer, tier, site string) *prometheus.CounterVec {
	return registered(registerer, prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "chapterhouse", Subsystem: "bus", Name: "answers_total", Help: "Requests of other sites, by what came of them.",
	}, []string{"tier", "site", "what", "result"})).MustCurryWith(prometheus.Labels{"tier": tier, "site": site})
}

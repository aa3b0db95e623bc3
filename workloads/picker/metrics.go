package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is what the picker tells about itself, under the names of freehold/gateway/picker/metrics.py.
type metrics struct {
	registry                   *prometheus.Registry
	picks                      *prometheus.CounterVec
	chunks, matched, elsewhere *prometheus.CounterVec
	ill                        *prometheus.CounterVec
}

func newMetrics(f *fleet) *metrics {
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), fleetCollector{f},
	)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		options := prometheus.CounterOpts{Name: "freehold_picker_" + name + "_total", Help: help}
		return promauto.With(registry).NewCounterVec(options, labels)
	}
	return &metrics{
		registry: registry,
		picks: counter("picks",
			"Requests sent to a worker, by what decided: prefix (its cache has a part), session, or new",
			"pool", "worker", "reason"),
		chunks: counter("prompt_chunks", "Chunks of 256 bytes in prompts", "pool"),
		matched: counter("matched_chunks",
			"Chunks that the picked worker has probably cached", "pool"),
		elsewhere: counter("served_elsewhere",
			"Requests that another worker served than was picked: it was busy or away", "pool"),
		ill: counter("worker_ill",
			"Times that a worker answered worse than its peers: it fails, or is slow",
			"pool", "worker", "why"),
	}
}

// fleetCollector reads the fleet when asked, so that workers that left leave the metrics too.
type fleetCollector struct{ *fleet }

var (
	labels   = []string{"pool", "worker"}
	inFlight = prometheus.NewDesc("freehold_picker_in_flight", "Requests in flight", labels, nil)
	workerUp = prometheus.NewDesc("freehold_picker_worker_up", "1 if it may be picked", labels, nil)
)

func (c fleetCollector) Describe(to chan<- *prometheus.Desc) {
	to <- inFlight
	to <- workerUp
}

func (c fleetCollector) Collect(to chan<- prometheus.Metric) {
	c.Lock()
	defer c.Unlock()
	gauge := func(of *prometheus.Desc, value float64, w *worker) {
		to <- prometheus.MustNewConstMetric(of, prometheus.GaugeValue, value, w.pool, w.name)
	}
	for _, pool := range c.workers {
		for _, w := range pool {
			up := 0.0
			if w.up && !w.leftOut {
				up = 1
			}
			gauge(inFlight, float64(w.inFlight), w)
			gauge(workerUp, up, w)
		}
	}
}

// serveHTTP answers `/health` and `/metrics`.
func serveHTTP(ctx context.Context, at address, told *metrics) error {
	paths := http.NewServeMux()
	paths.Handle("/metrics", promhttp.HandlerFor(told.registry, promhttp.HandlerOpts{}))
	paths.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {})
	// A scrape's request is a few hundred bytes; who sends none in 5 s is no scraper.
	server := &http.Server{Addr: string(at), Handler: paths, ReadTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

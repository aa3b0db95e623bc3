package main

import (
	"slices"

	"github.com/zeebo/xxh3"
)

const (
	// A worker has room below 1.25 times the mean of requests in flight, plus one (so that there is room
	// when nothing runs). Best or near best on six workloads, measured 2026-11-23.
	loadFactor = 1.25
	// A worker is idle below this share of the mean: see freehold/gateway/picker/policy.py.
	idleShare = 0.5
	// From how many of the best by weight the least loaded is taken: see there, too.
	candidates = 3
)

// worker is one engine as the picker sees it. The fleet's lock guards all that changes.
type worker struct {
	pool, name string
	address    string // `host:port` with the host as an IP address: how Envoy names it
	up         bool   // its health check passes
	inFlight   int
	ended      int // requests that have left it
	// What these three mean: illness.go.
	suspect  bool
	symptoms int
	leftOut  bool
	index    *index
}

// pick is a worker, and how many chunks of the prompt its cache probably holds.
type pick struct {
	worker  *worker
	matched int
}

// byPrefix picks by the longest prefix match among workers with room.
//
// Several match alike where nothing, or only a common system prompt, is known: then the first chunk after
// the match decides by rendezvous hash, the least loaded of its three best workers. With several gateways that
// share nothing it decides alone, so that all send the same prompt to the same worker. Idle workers are among
// them, and read what is common once.
func byPrefix(workers []*worker, p prompt, replicas int) pick {
	found := []pick{}
	longest, alike := 0, 0
	for _, w := range withRoom(workers) {
		matched := w.index.matched(p.chain)
		found = append(found, pick{w, matched})
		if matched > longest || len(found) == 1 {
			longest, alike = matched, 0
		}
		if matched == longest {
			alike++
		}
	}
	if alike > 1 {
		idle := idleShare * meanInFlight(workers)
		found = slices.DeleteFunc(found, func(each pick) bool {
			return each.matched < longest && float64(each.worker.inFlight) >= idle
		})
		return leastLoaded(found, p.keyAfter(longest), replicas)
	}
	return found[slices.IndexFunc(found, func(each pick) bool { return each.matched == longest })]
}

func leastLoaded(found []pick, key uint64, replicas int) pick {
	slices.SortFunc(found, func(a, b pick) int { return byWeight(a.worker, b.worker, key) })
	if replicas > 1 {
		return found[0]
	}
	return slices.MinFunc(found[:min(len(found), candidates)], func(a, b pick) int {
		return a.worker.inFlight - b.worker.inFlight
	})
}

// bySession picks the session's own worker, or the next in its order while that one has no room.
func bySession(workers []*worker, session string, p prompt) pick {
	key := xxh3.HashString(session)
	w := slices.MinFunc(withRoom(workers), func(a, b *worker) int { return byWeight(a, b, key) })
	return pick{w, w.index.matched(p.chain)}
}

// withRoom are those below the bound. Never empty: the least loaded is not above the mean.
func withRoom(workers []*worker) []*worker {
	bound := loadFactor*meanInFlight(workers) + 1
	room := make([]*worker, 0, len(workers))
	for _, w := range workers {
		if float64(w.inFlight) < bound {
			room = append(room, w)
		}
	}
	return room
}

func meanInFlight(workers []*worker) float64 {
	sum := 0
	for _, w := range workers {
		sum += w.inFlight
	}
	return float64(sum) / float64(len(workers))
}

// byWeight orders by highest random weight: a worker's weight for a key is the same on every gateway.
func byWeight(a, b *worker, key uint64) int {
	first, second := xxh3.HashStringSeed(a.address, key), xxh3.HashStringSeed(b.address, key)
	switch {
	case first > second:
		return -1
	case first < second:
		return 1
	}
	return 0
}

package main

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"sync"
	"time"
)

// Workers whose health check is fine and who yet answer badly: with errors, with garbage, never, or far too
// slowly. Bad answers, which the gateways report, and requests that do not end make a worker suspect. The same
// harmless request to the suspect and to its peers then decides. Why so, and where the figures come from:
// freehold/gateway/picker/illness.py.
const (
	lookEvery              = time.Second
	usualTimes             = 4.0
	lateSeconds            = 0.5
	quietSeconds           = 2.0
	usually, now           = 0.02, 0.5
	slowTimes, slowSeconds = 4.0, 0.1
	illAt                  = 3
	peersAsked             = 2
)

// mostLeftOut is a third of a pool, but one of two; never the only one.
func mostLeftOut(workers int) int {
	if workers < 2 {
		return 0
	}
	return max(1, workers/3)
}

// answer is the seconds until a whole answer was there, infinite where it made no sense, or `busy`.
type answer float64

var (
	failed = answer(math.Inf(1))
	busy   = answer(math.NaN())
)

func (a answer) isBusy() bool { return math.IsNaN(float64(a)) }

// verdict is how many symptoms an answer adds, beside those of peers. Negative is well.
func verdict(took answer, peers []answer) int {
	sum, answered := 0.0, 0
	for _, peer := range peers {
		if !peer.isBusy() && peer != failed {
			sum += float64(peer)
			answered++
		}
	}
	switch {
	case took.isBusy() || answered == 0:
		return 0
	case took == failed:
		return illAt
	case float64(took) > slowTimes*sum/float64(answered)+slowSeconds:
		return 1
	}
	return -1
}

// pace is how long a request takes: by Little's law, without a clock for each.
type pace struct {
	forgotten, waited, ended float64 // waited in seconds, of all requests together
}

func (p *pace) observe(inFlight, ended int) {
	p.waited += float64(inFlight)*lookEvery.Seconds() - p.forgotten*p.waited
	p.ended += float64(ended) - p.forgotten*p.ended
}

func (p *pace) seconds() float64 { return p.waited / max(1, p.ended) }

// chart is what is noted about one worker.
type chart struct {
	ended int
	pace  pace
	quiet float64 // seconds that requests have waited at it, all together, since one ended there last
}

// ward is the workers of one pool: who is suspect, who is ill, who is left out. The fleet's lock guards it.
type ward struct {
	pool     poolConfig
	fleet    *fleet
	told     *metrics
	usual    pace
	charts   map[*worker]*chart
	ill      []*worker // the longest ill first
	examined map[*worker]bool
}

func newWard(pool poolConfig, f *fleet, told *metrics) *ward {
	return &ward{
		pool: pool, fleet: f, told: told, usual: pace{forgotten: usually},
		charts: map[*worker]*chart{}, examined: map[*worker]bool{},
	}
}

func (w *ward) watch(ctx context.Context) {
	for sleep(ctx, lookEvery) {
		w.look(ctx)
	}
}

// look is what a second brings: who is suspect now is examined.
func (w *ward) look(ctx context.Context) {
	w.fleet.Lock()
	defer w.fleet.Unlock()
	workers := w.fleet.healthy(w.pool.Name)
	w.forgetAllBut(workers)
	for _, each := range workers {
		if w.isLate(each) {
			each.suspect = true
		}
	}
	for _, each := range workers {
		if (each.suspect || each.symptoms > 0) && !w.examined[each] {
			if peers := peersOf(each, workers); len(peers) > 0 {
				each.suspect = false
				w.examined[each] = true
				go w.examine(ctx, each, peers)
			}
		}
	}
}

func peersOf(of *worker, workers []*worker) []*worker {
	peers := []*worker{}
	for _, each := range workers {
		if each != of && each.symptoms == 0 && len(peers) < peersAsked {
			peers = append(peers, each)
		}
	}
	return peers
}

func (w *ward) isLate(of *worker) bool {
	noted := w.charts[of]
	if noted == nil {
		noted = &chart{ended: of.ended, pace: pace{forgotten: now}}
		w.charts[of] = noted
	}
	ended := of.ended - noted.ended
	noted.ended = of.ended
	noted.pace.observe(of.inFlight, ended)
	if ended > 0 || of.inFlight == 0 {
		noted.quiet = 0
	} else {
		noted.quiet += float64(of.inFlight) * lookEvery.Seconds()
	}
	if !slices.Contains(w.ill, of) {
		w.usual.observe(of.inFlight, ended)
	}
	usual := usualTimes * w.usual.seconds()
	slow := noted.pace.seconds() > usual+lateSeconds
	return slow || noted.quiet > usual+quietSeconds*float64(max(1, of.inFlight))
}

func (w *ward) examine(ctx context.Context, of *worker, peers []*worker) {
	took := make([]answer, 1+len(peers))
	all := sync.WaitGroup{}
	for place, each := range append([]*worker{of}, peers...) {
		all.Go(func() { took[place] = ask(ctx, each.address, w.pool.Role, w.pool.model()) })
	}
	all.Wait()
	w.fleet.Lock()
	defer w.fleet.Unlock()
	delete(w.examined, of)
	of.symptoms = min(illAt, max(0, of.symptoms+verdict(took[0], took[1:])))
	place := slices.Index(w.ill, of)
	if of.symptoms == illAt && place < 0 {
		w.ill = append(w.ill, of)
		why := "slow"
		if took[0] == failed {
			why = "fails"
		}
		w.told.ill.WithLabelValues(of.pool, of.name, why).Inc()
		w.tell(of, "worse than its peers ("+why+")")
	} else if of.symptoms == 0 && place >= 0 {
		w.ill = slices.Delete(w.ill, place, place+1)
		w.tell(of, "as its peers again")
	}
	w.leaveOut()
}

func (w *ward) leaveOut() {
	workers := w.fleet.healthy(w.pool.Name)
	out := w.ill[:min(len(w.ill), mostLeftOut(len(workers)))]
	for _, each := range workers {
		each.leftOut = slices.Contains(out, each)
	}
}

// forgetAllBut drops who fails its health check: it comes back as another.
func (w *ward) forgetAllBut(workers []*worker) {
	for each := range w.charts {
		if slices.Contains(workers, each) {
			continue
		}
		delete(w.charts, each)
		each.suspect, each.symptoms, each.leftOut = false, 0, false
		if place := slices.Index(w.ill, each); place >= 0 {
			w.ill = slices.Delete(w.ill, place, place+1)
		}
	}
	w.leaveOut()
}

func (w *ward) tell(of *worker, how string) {
	fmt.Fprintf(os.Stderr, "picker: %s %s answers %s\n", of.pool, of.name, how)
}

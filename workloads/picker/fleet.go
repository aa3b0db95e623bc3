package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"
)

// As in the Envoy configuration (freehold/gateway/clusters.py): names are looked up anew every 5 s; a refused
// connection is enough to leave a worker out, silence must last three checks of 5 s.
const (
	lookupEvery  = 5 * time.Second
	checkEvery   = time.Second
	checkTimeout = 5 * time.Second
	silentChecks = 3
)

// fleet is the workers as they are now: found by name, checked for health, counted. One lock for all: what
// is done under it takes microseconds.
type fleet struct {
	sync.Mutex
	pools   []poolConfig
	workers map[string]map[string]*worker // by pool, by address
	checks  map[*worker]context.CancelFunc
}

func newFleet(pools []poolConfig) *fleet {
	f := &fleet{pools: pools, workers: map[string]map[string]*worker{}, checks: map[*worker]context.CancelFunc{}}
	for _, pool := range pools {
		f.workers[pool.Name] = map[string]*worker{}
	}
	return f
}

// healthy, up and leavesOut are for callers that hold the lock.
func (f *fleet) healthy(pool string) []*worker {
	return f.those(pool, func(w *worker) bool { return w.up })
}

// up are the workers to pick from.
func (f *fleet) up(pool string) []*worker {
	return f.those(pool, func(w *worker) bool { return w.up && !w.leftOut })
}

func (f *fleet) leavesOut(pool string) bool {
	return len(f.those(pool, func(w *worker) bool { return w.leftOut })) > 0
}

func (f *fleet) those(pool string, are func(*worker) bool) []*worker {
	found := make([]*worker, 0, len(f.workers[pool]))
	for _, w := range f.workers[pool] {
		if are(w) {
			found = append(found, w)
		}
	}
	return found
}

func (f *fleet) keepLookingUp(ctx context.Context) {
	for sleep(ctx, lookupEvery) {
		f.lookUp(ctx)
	}
}

// lookUp finds every pool's workers. A name that cannot be resolved leaves its pool as it was.
func (f *fleet) lookUp(ctx context.Context) {
	for _, pool := range f.pools {
		names := map[string]string{}
		resolved := true
		for _, source := range pool.Sources {
			addresses, err := addressesOf(ctx, source)
			resolved = resolved && err == nil
			for _, address := range addresses {
				names[address] = source.Name
				if source.Name == "" {
					names[address] = address
				}
			}
		}
		if resolved {
			f.update(ctx, pool, names)
		}
	}
}

func (f *fleet) update(ctx context.Context, pool poolConfig, names map[string]string) {
	f.Lock()
	defer f.Unlock()
	known := f.workers[pool.Name]
	for address, w := range known {
		if _, there := names[address]; !there {
			f.checks[w]()
			delete(f.checks, w)
			delete(known, address)
		}
	}
	for address, name := range names {
		if known[address] == nil {
			w := &worker{pool: pool.Name, name: name, address: address, up: true, index: newIndex()}
			known[address] = w
			checking, stop := context.WithCancel(ctx)
			f.checks[w] = stop
			go f.keepChecking(checking, w, "http://"+address+pool.HealthPath)
		}
	}
}

func addressesOf(ctx context.Context, from source) ([]string, error) {
	hosts, err := net.DefaultResolver.LookupIP(ctx, "ip4", from.Host) // Envoy prefers IPv4 as well
	if err != nil {
		hosts, err = net.DefaultResolver.LookupIP(ctx, "ip6", from.Host)
	}
	addresses := []string{}
	for _, host := range hosts {
		addresses = append(addresses, join(host.String(), from.Port))
	}
	return addresses, err
}

func (f *fleet) keepChecking(ctx context.Context, w *worker, url string) {
	silent := 0
	for ctx.Err() == nil {
		answered, err := healthy(ctx, url)
		if isTimeout(err) {
			silent++
		} else {
			silent = 0
		}
		f.Lock()
		if silent > 0 {
			answered = silent < silentChecks && w.up
		}
		if w.up && !answered {
			w.index.clear() // what comes back is a new engine with an empty cache
		}
		w.up = answered
		f.Unlock()
		sleep(ctx, checkEvery)
	}
}

func healthy(ctx context.Context, url string) (bool, error) {
	request, err := newRequest(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false, err
	}
	answer, err := engines.Do(request)
	if err != nil {
		return false, err
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK, nil
}

func isTimeout(err error) bool {
	var timed net.Error
	return errors.As(err, &timed) && timed.Timeout()
}

// sleep returns false where it was ended before its time.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// The endpoint picker, compiled: the same configuration, protocol, choices and metrics as
// `python -m freehold.gateway.picker`, at a fraction of its CPU time (docs/decisions/0073-compiled-picker.md).
//
//	picker CONFIG.json
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: picker CONFIG.json")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "picker:", err)
		os.Exit(2)
	}
}

// run serves until it is told to stop.
func run(path string) error {
	config, err := load(path)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fleet := newFleet(config.Pools)
	fleet.lookUp(ctx)
	go fleet.keepLookingUp(ctx)
	told := newMetrics(fleet)
	for _, pool := range config.Pools {
		go newWard(pool, fleet, told).watch(ctx)
	}
	ended := make(chan error, 2)
	go func() { ended <- serveHTTP(ctx, config.HTTP, told) }()
	go func() { ended <- serveGRPC(ctx, config, newPicker(config, fleet, told)) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return nil
	}
}

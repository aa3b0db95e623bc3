package main

import (
	"context"
	"io"
	"net"
	"strconv"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	ext_proc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/mem"
)

// picker knows the pools and picks their workers.
type picker struct {
	ext_proc.UnimplementedExternalProcessorServer
	fleet    *fleet
	told     *metrics
	replicas int
	byModel  map[string]poolConfig
	byName   map[string]poolConfig
}

func newPicker(from *config, f *fleet, told *metrics) *picker {
	p := &picker{
		fleet: f, told: told, replicas: from.Replicas,
		byModel: map[string]poolConfig{}, byName: map[string]poolConfig{},
	}
	for _, pool := range from.Pools {
		p.byName[pool.Name] = pool
		for name := range pool.Served {
			p.byModel[name] = pool
		}
	}
	return p
}

// Process is one request on its way through: picked, served, ended. The stream stays open until its answer
// ends, which makes the counts of requests in flight exact.
func (p *picker) Process(stream ext_proc.ExternalProcessor_ProcessServer) error {
	r := request{picker: p, lot: -1}
	defer r.end()
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(r.answer(message)); err != nil {
			return err
		}
	}
}

// poolFor is the pool that is to answer (nil: no worker of it is ours to pick), and whether the lot was
// taken back: a newcomer without a worker costs nobody an answer. The caller holds the fleet's lock.
func (p *picker) poolFor(model string, lot int) (*poolConfig, bool) {
	pool, known := p.byModel[model]
	if !known {
		return nil, false
	}
	share := pool.Share
	if share == nil || pool.Served[model] != share.Of || lot < 0 || lot >= share.Below {
		return &pool, false
	}
	if share.Pool == nil {
		return nil, false
	}
	if len(p.fleet.up(*share.Pool)) == 0 {
		return &pool, true
	}
	newcomer := p.byName[*share.Pool]
	return &newcomer, false
}

// chooses says whether the choice is the picker's. Envoy's own policies do not know who is left out. The caller
// holds the fleet's lock.
func (p *picker) chooses(pool *poolConfig) bool {
	return pool != nil && (pool.Policy == "prefix" || p.fleet.leavesOut(pool.Name))
}

// choose is the worker to try, and the one to retry on; none where all are away.
func (p *picker) choose(pool *poolConfig, of prompt, session string) []*worker {
	workers := p.fleet.up(pool.Name)
	if len(workers) == 0 {
		return nil
	}
	first := p.pick(workers, of, session)
	p.count(pool, first, of, session)
	first.worker.index.add(of.chain)
	chosen := []*worker{first.worker}
	others := workers[:0]
	for _, w := range workers {
		if w != first.worker {
			others = append(others, w)
		}
	}
	if len(others) > 0 {
		chosen = append(chosen, p.pick(others, of, session).worker)
	}
	return chosen
}

func (p *picker) pick(workers []*worker, of prompt, session string) pick {
	if session != "" {
		return bySession(workers, session, of)
	}
	return byPrefix(workers, of, p.replicas)
}

func (p *picker) count(pool *poolConfig, chosen pick, of prompt, session string) {
	reason := "new"
	if session != "" {
		reason = "session"
	} else if chosen.matched > 0 {
		reason = "prefix"
	}
	p.told.picks.WithLabelValues(pool.Name, chosen.worker.name, reason).Inc()
	p.told.chunks.WithLabelValues(pool.Name).Add(float64(len(of.chain)))
	p.told.matched.WithLabelValues(pool.Name).Add(float64(chosen.matched))
}

type request struct {
	*picker
	session string
	lot     int // -1 where none was drawn
	pool    *poolConfig
	prompt  *prompt
	worker  *worker
}

func (r *request) answer(message *ext_proc.ProcessingRequest) *ext_proc.ProcessingResponse {
	switch of := message.GetRequest().(type) {
	case *ext_proc.ProcessingRequest_RequestHeaders:
		r.session = header(of.RequestHeaders, sessionHeader)
		if lot, err := strconv.Atoi(header(of.RequestHeaders, lotHeader)); err == nil {
			r.lot = lot
		}
		return headersGoOn
	case *ext_proc.ProcessingRequest_RequestBody:
		return r.route(of.RequestBody.GetBody())
	default:
		r.servedBy(upstream(message))
		return answerGoesOn
	}
}

// route lets a body go on that is no JSON object with a model: Envoy refuses it in its own words.
func (r *request) route(content []byte) *ext_proc.ProcessingResponse {
	found, ok := read(content)
	if !ok {
		return bodyGoesOn
	}
	r.fleet.Lock()
	pool, takenBack := r.poolFor(found.model, r.lot)
	chooses := r.chooses(pool)
	r.fleet.Unlock()
	r.pool = pool
	addresses := []string{}
	if chooses {
		served, known := pool.Served[found.model]
		if !known {
			served = pool.Served[pool.Name]
		}
		of := promptOf(found, served)
		r.prompt = &of
		r.fleet.Lock()
		workers := r.choose(pool, of, r.session)
		if len(workers) > 0 {
			r.move(workers[0])
		}
		r.fleet.Unlock()
		for _, w := range workers {
			addresses = append(addresses, w.address)
		}
	}
	return routed(found.known(), addresses, takenBack)
}

// servedBy learns that a retry, a pin or Envoy's own policy has sent it elsewhere than was picked.
func (r *request) servedBy(address string) {
	if r.pool == nil {
		return
	}
	r.fleet.Lock()
	defer r.fleet.Unlock()
	w := r.fleet.workers[r.pool.Name][address]
	if w == nil || w == r.worker {
		return
	}
	if r.prompt != nil {
		w.index.add(r.prompt.chain)
		r.told.elsewhere.WithLabelValues(r.pool.Name).Inc()
	}
	r.move(w)
}

func (r *request) end() {
	r.fleet.Lock()
	defer r.fleet.Unlock()
	if r.worker != nil {
		r.worker.ended++
	}
	r.move(nil)
}

// move counts the request at another worker; at none when nil. The caller holds the lock.
func (r *request) move(w *worker) {
	if r.worker != nil {
		r.worker.inFlight--
	}
	if w != nil {
		w.inFlight++
	}
	r.worker = w
}

const window = 1 << 20

// Powers of two. gRPC clears a whole buffer for each message; without those between 32 KiB and 1 MiB, a body
// of 200 KB would clear one MiB.
var bufferSizes = []uint8{8, 12, 14, 15, 16, 17, 18, 19, 20}

// serveGRPC serves the Endpoint Picker Protocol, and gRPC's health check.
func serveGRPC(ctx context.Context, from *config, p *picker) error {
	listener, err := net.Listen("tcp", string(from.GRPC))
	if err != nil {
		return err
	}
	buffers, err := mem.NewBinaryTieredBufferPool(bufferSizes...)
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		experimental.BufferPool(buffers),
		// A body comes in one message; what surrounds it is far below 1 MiB.
		grpc.MaxRecvMsgSize(from.MaxBodyBytes+1<<20),
		// A long body in few pieces: with gRPC's windows of 64 KiB Envoy must wait for more room again and again.
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(16*window), grpc.ReadBufferSize(256<<10),
	)
	ext_proc.RegisterExternalProcessorServer(server, p)
	accesslog.RegisterAccessLogServiceServer(server, reports{fleet: p.fleet})
	grpc_health_v1.RegisterHealthServer(server, health.NewServer())
	context.AfterFunc(ctx, server.Stop)
	return server.Serve(listener)
}

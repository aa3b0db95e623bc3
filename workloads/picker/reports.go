package main

import (
	"io"

	accesslog "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
)

// reports takes what a gateway says of bad answers: Envoy's access log of these alone (freehold/gateway/reports.py).
type reports struct {
	accesslog.UnimplementedAccessLogServiceServer
	fleet *fleet
}

// StreamAccessLogs ends the stream after each message, so that Envoy opens the next one to the picker that is
// active then.
func (r reports) StreamAccessLogs(stream accesslog.AccessLogService_StreamAccessLogsServer) error {
	message, err := stream.Recv()
	if err == io.EOF {
		err = nil
	}
	if err != nil {
		return err
	}
	r.fleet.Lock()
	defer r.fleet.Unlock()
	for _, entry := range message.GetHttpLogs().GetLogEntry() {
		of := entry.GetCommonProperties()
		at := of.GetUpstreamRemoteAddress().GetSocketAddress()
		if w := r.fleet.workers[of.GetUpstreamCluster()][join(at.GetAddress(), int(at.GetPortValue()))]; w != nil {
			w.suspect = true
		}
	}
	return stream.SendAndClose(&accesslog.StreamAccessLogsResponse{})
}

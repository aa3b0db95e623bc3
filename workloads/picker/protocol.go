package main

import (
	"strconv"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	ext_proc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/protobuf/types/known/structpb"
)

// Names that Envoy's configuration and the picker share: freehold/gateway/names.py, which a test holds equal.
const (
	bodyNamespace = "freehold.body"
	modelKey      = "model"
	streamKey     = "stream"
	usageAskedKey = "usage-asked"
	destination   = "x-gateway-destination-endpoint"
	sessionHeader = "x-session-id"
	lotHeader     = "x-gateway-lot"
	lots          = 10_000
	filterName    = "envoy.filters.http.ext_proc"
)

var (
	headersGoOn = &ext_proc.ProcessingResponse{
		Response: &ext_proc.ProcessingResponse_RequestHeaders{RequestHeaders: &ext_proc.HeadersResponse{}},
	}
	bodyGoesOn = &ext_proc.ProcessingResponse{
		Response: &ext_proc.ProcessingResponse_RequestBody{RequestBody: &ext_proc.BodyResponse{}},
	}
	answerGoesOn = &ext_proc.ProcessingResponse{
		Response: &ext_proc.ProcessingResponse_ResponseHeaders{ResponseHeaders: &ext_proc.HeadersResponse{}},
	}
)

// routed says where to (the second address is for a retry), and what is known of the body, so that Envoy need
// not parse it again. Without an address the choice is Envoy's. A lot that is taken back is in no share.
func routed(known *structpb.Struct, addresses []string, lotTakenBack bool) *ext_proc.ProcessingResponse {
	common := &ext_proc.CommonResponse{ClearRouteCache: true, HeaderMutation: &ext_proc.HeaderMutation{}}
	if lotTakenBack {
		set(common, lotHeader, strconv.Itoa(lots))
	}
	if len(addresses) > 0 {
		set(common, destination, strings.Join(addresses, ","))
	} else {
		// Envoy looks for the route again only where a header changes (seen with 1.40).
		common.HeaderMutation.RemoveHeaders = []string{destination}
	}
	return &ext_proc.ProcessingResponse{
		Response: &ext_proc.ProcessingResponse_RequestBody{
			RequestBody: &ext_proc.BodyResponse{Response: common},
		},
		DynamicMetadata: &structpb.Struct{
			Fields: map[string]*structpb.Value{bodyNamespace: structpb.NewStructValue(known)},
		},
	}
}

func set(common *ext_proc.CommonResponse, name, value string) {
	common.HeaderMutation.SetHeaders = append(common.HeaderMutation.SetHeaders, &core.HeaderValueOption{
		Header:       &core.HeaderValue{Key: name, RawValue: []byte(value)},
		AppendAction: core.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	})
}

func header(of *ext_proc.HttpHeaders, name string) string {
	for _, each := range of.GetHeaders().GetHeaders() {
		if each.GetKey() == name {
			return string(each.GetRawValue())
		}
	}
	return ""
}

// upstream is the address of the worker that answers.
func upstream(of *ext_proc.ProcessingRequest) string {
	return of.GetAttributes()[filterName].GetFields()["upstream.address"].GetStringValue()
}

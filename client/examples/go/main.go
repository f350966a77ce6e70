// Command example watches the built-in model while it is loaded, streams an answer, and reads an error:
// go run . [HOST:PORT]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"slices"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	hangar "example.com/hangar-example/gen/hangar/v1"
)

func main() {
	address := "localhost:50051"
	if len(os.Args) > 1 {
		address = os.Args[1]
	}
	if err := run(context.Background(), address); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address string) error {
	connection, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()

	models := hangar.NewModelServiceClient(connection)
	if err := load(ctx, models); err != nil {
		return err
	}
	if err := generate(ctx, hangar.NewInferenceServiceClient(connection)); err != nil {
		return err
	}
	return fail(ctx, models)
}

// load loads the model while a watch follows it, until the watch has told that it is READY.
func load(ctx context.Context, models hangar.ModelServiceClient) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watch, err := models.WatchStatus(ctx, &hangar.WatchStatusRequest{ModelIds: []string{"demo"}})
	if err != nil {
		return err
	}
	ready := false
	for complete := false; !complete; {
		response, err := watch.Recv()
		if err != nil {
			return err
		}
		for _, status := range response.GetSnapshot().GetModels() {
			ready = ready || status.GetState() == hangar.ModelState_MODEL_STATE_READY
		}
		complete = response.GetSnapshot().GetComplete()
	}
	fmt.Println("snapshot complete")

	loads, err := models.LoadModel(ctx, &hangar.LoadModelRequest{
		Target: &hangar.LoadModelRequest_ModelId{ModelId: "demo"},
		Spec: &hangar.ModelSpec{
			Source: &hangar.ModelSource{Source: &hangar.ModelSource_Demo{Demo: &hangar.DemoSource{}}},
		},
		Wait: true,
	})
	if err != nil {
		return err
	}
	fmt.Println("loaded", loads.GetLoads()[0].GetModelId())

	for !ready {
		response, err := watch.Recv()
		if err != nil {
			return err
		}
		if changed := response.GetChanged(); changed.GetKind() == hangar.ChangeKind_CHANGE_KIND_TRANSITION {
			fmt.Println("watched", changed.GetStatus().GetState())
			ready = changed.GetStatus().GetState() == hangar.ModelState_MODEL_STATE_READY
		}
	}
	return nil
}

// generate prints an answer as it is made.
func generate(ctx context.Context, inference hangar.InferenceServiceClient) error {
	answer, err := inference.Generate(ctx, &hangar.GenerateRequest{
		ModelId:   "demo",
		Messages:  []*hangar.ChatMessage{{Role: "user", Content: "What is Hangar?"}},
		Sampling:  &hangar.Sampling{Temperature: proto.Float32(0)},
		MaxTokens: 64,
	})
	if err != nil {
		return err
	}
	for {
		response, err := answer.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Print(response.GetChunk().GetText())
		if done := response.GetDone(); done != nil {
			fmt.Printf("\n%s, %d tokens\n", done.GetFinishReason(), done.GetUsage().GetCompletionTokens())
		}
	}
}

// fail asks for a model that is not there, and prints the ErrorInfo that every error of Hangar carries.
func fail(ctx context.Context, models hangar.ModelServiceClient) error {
	_, err := models.GetInfo(ctx, &hangar.GetInfoRequest{ModelId: "nobody"})
	failed := status.Convert(err)
	for _, detail := range failed.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			fmt.Println(info.GetReason(), info.GetDomain())
			for _, key := range slices.Sorted(maps.Keys(info.GetMetadata())) {
				fmt.Printf("%s=%s\n", key, info.GetMetadata()[key])
			}
			return nil
		}
	}
	return fmt.Errorf("no ErrorInfo: %w", err)
}

package example;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import hangar.v1.ChangeKind;
import hangar.v1.ChatMessage;
import hangar.v1.DemoSource;
import hangar.v1.GenerateRequest;
import hangar.v1.GetInfoRequest;
import hangar.v1.InferenceServiceGrpc;
import hangar.v1.InferenceServiceGrpc.InferenceServiceBlockingStub;
import hangar.v1.LoadModelRequest;
import hangar.v1.ModelServiceGrpc;
import hangar.v1.ModelServiceGrpc.ModelServiceBlockingStub;
import hangar.v1.ModelSource;
import hangar.v1.ModelSpec;
import hangar.v1.ModelState;
import hangar.v1.Sampling;
import hangar.v1.WatchStatusRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.util.TreeMap;

/** Watches the built-in model while it is loaded, streams an answer, and reads an error: Main [HOST:PORT] */
public final class Main {
    private Main() {}

    public static void main(String[] arguments) throws InvalidProtocolBufferException {
        var address = arguments.length > 0 ? arguments[0] : "localhost:50051";
        var channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()).build();
        try {
            load(ModelServiceGrpc.newBlockingStub(channel));
            generate(InferenceServiceGrpc.newBlockingStub(channel));
            fail(ModelServiceGrpc.newBlockingStub(channel));
        } finally {
            channel.shutdownNow();
        }
    }

    /** Loads the model while a watch follows it, until the watch has told that it is READY. */
    private static void load(ModelServiceBlockingStub models) {
        var watch = models.watchStatus(WatchStatusRequest.newBuilder().addModelIds("demo").build());
        var ready = false;
        for (var complete = false; !complete; ) {
            var snapshot = watch.next().getSnapshot();
            ready |= snapshot.getModelsList().stream()
                    .anyMatch(status -> status.getState() == ModelState.MODEL_STATE_READY);
            complete = snapshot.getComplete();
        }
        System.out.println("snapshot complete");

        var source = ModelSource.newBuilder().setDemo(DemoSource.getDefaultInstance());
        var request = LoadModelRequest.newBuilder()
                .setModelId("demo")
                .setSpec(ModelSpec.newBuilder().setSource(source))
                .setWait(true)
                .build();
        System.out.println("loaded " + models.loadModel(request).getLoads(0).getModelId());

        while (!ready) {
            var changed = watch.next().getChanged();
            if (changed.getKind() == ChangeKind.CHANGE_KIND_TRANSITION) {
                System.out.println("watched " + changed.getStatus().getState());
                ready = changed.getStatus().getState() == ModelState.MODEL_STATE_READY;
            }
        }
    }

    /** Prints an answer as it is made. */
    private static void generate(InferenceServiceBlockingStub inference) {
        var question = ChatMessage.newBuilder().setRole("user").setContent("What is Hangar?");
        var request = GenerateRequest.newBuilder()
                .setModelId("demo")
                .addMessages(question)
                .setSampling(Sampling.newBuilder().setTemperature(0))
                .setMaxTokens(64)
                .build();
        inference.generate(request).forEachRemaining(response -> {
            System.out.print(response.getChunk().getText());
            System.out.flush();
            if (response.hasDone()) {
                var done = response.getDone();
                System.out.printf("%n%s, %d tokens%n", done.getFinishReason(), done.getUsage().getCompletionTokens());
            }
        });
    }

    /** Asks for a model that is not there, and prints the ErrorInfo that every error of Hangar carries. */
    private static void fail(ModelServiceBlockingStub models) throws InvalidProtocolBufferException {
        try {
            models.getInfo(GetInfoRequest.newBuilder().setModelId("nobody").build());
        } catch (StatusRuntimeException error) {
            for (var detail : StatusProto.fromThrowable(error).getDetailsList()) {
                if (detail.is(ErrorInfo.class)) {
                    var info = detail.unpack(ErrorInfo.class);
                    System.out.println(info.getReason() + " " + info.getDomain());
                    new TreeMap<>(info.getMetadataMap()).forEach((key, value) -> System.out.println(key + "=" + value));
                    return;
                }
            }
            throw error;
        }
    }
}

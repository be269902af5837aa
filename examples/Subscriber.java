import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RebalanceInProgressException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.StringDeserializer;

/**
 * A subscriber of topsync's orders: prints each order that was paid, shipped, refunded or ended.
 *
 * <p>{@code java -cp 'jars/*' Subscriber.java localhost:9092 taobao.trade.orders.v1 my-erp}, with kafka-clients
 * and jackson-databind among the jars. With a fourth argument {@code until-end}, it ends after the records that
 * are there at the start. docs/subscribers.md explains each decision that is made here.
 */
public class Subscriber {
    private static final Set<String> WANTED = Set.of("paid", "shipped", "partly-refunded", "finished", "closed");
    private static final ObjectMapper JSON = new ObjectMapper();

    /** In your system, keep this in your database, and write it in the transaction of your own change. */
    private final Map<String, Long> revisions = new HashMap<>();

    public static void main(String[] arguments) throws Exception {
        Properties settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("group.id", arguments[2]);
        settings.put("auto.offset.reset", "earliest"); // a new group reads everything: this is how to replay
        settings.put("isolation.level", "read_committed"); // an aborted order was never published
        settings.put("allow.auto.create.topics", "false"); // a topic that the broker creates is not compacted
        settings.put("enable.auto.commit", "false"); // we commit records after acting on them
        boolean untilEnd = arguments.length > 3 && arguments[3].equals("until-end");
        Subscriber subscriber = new Subscriber();
        try (KafkaConsumer<String, String> consumer =
                new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer())) {
            consumer.subscribe(List.of(arguments[1]));
            Map<TopicPartition, Long> ends = Map.of();
            while (!untilEnd || ends.isEmpty() || isBefore(consumer, ends)) {
                for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(500))) {
                    subscriber.take(record);
                }
                try {
                    consumer.commitSync(); // after acting: a crash repeats records, but loses none
                } catch (CommitFailedException | RebalanceInProgressException rebalance) {
                    // The next owner of the partition gets the records again.
                }
                if (ends.isEmpty()) {
                    ends = consumer.endOffsets(consumer.assignment());
                }
            }
        }
    }

    private static boolean isBefore(KafkaConsumer<String, String> consumer, Map<TopicPartition, Long> ends) {
        return ends.entrySet().stream().anyMatch(end -> consumer.position(end.getKey()) < end.getValue());
    }

    private void take(ConsumerRecord<String, String> record) throws Exception {
        if (record.value() == null) { // a tombstone: the order was erased, forget it
            revisions.remove(record.key());
            System.out.println(record.key() + " erased");
            return;
        }
        long revision = Long.parseLong(header(record, "ce_revision"));
        if (revision <= revisions.getOrDefault(record.key(), 0L)) { // the same record again
            return;
        }
        revisions.put(record.key(), revision);
        List<String> happened = Arrays.asList(header(record, "ce_transitions").split(","));
        if (happened.stream().noneMatch(WANTED::contains)) { // decided without reading the JSON
            return;
        }
        JsonNode order = JSON.readTree(record.value());
        System.out.printf(
                "%s %s %s %s %s yuan%n",
                header(record, "ce_time"),
                record.key(),
                String.join("+", happened),
                order.get("status").asText(),
                order.path("payment").asText("-"));
    }

    private static String header(ConsumerRecord<String, String> record, String name) {
        Header header = record.headers().lastHeader(name);
        return new String(header.value(), StandardCharsets.UTF_8);
    }
}

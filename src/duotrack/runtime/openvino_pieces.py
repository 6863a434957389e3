"""Cutting an OpenVINO graph into the pieces that tracking runs by themselves."""

from typing import Any

from duotrack.runtime.graph_facts import MAPS, GraphFacts

CONVOLUTIONS = {"Convolution", "GroupConvolution"}
PRODUCTS = {"MatMul", "ScaledDotProductAttention"}
WIDE = 1024
"""Channels from which a head's first convolution is worth float32: ckd-base has 1536, and boxes a third nearer for a
tenth of the time; ckd-tiny has fewer, and boxes within 0.35 px as it is."""


def sized(model: Any, facts: GraphFacts, *, batch: int) -> Any:
    """The same model for `batch` samples; nothing in it asks for a shape any more."""
    import openvino as ov

    model.reshape(dict(zip(model.inputs, facts.input_shapes(batch).values(), strict=True)))
    for op in model.get_ops():
        if op.get_type_name() == "ShapeOf":  # it may ask an input that a piece of the graph does not have
            shape = list(op.input(0).get_source_output().get_shape())
            kind = op.output(0).get_element_type().to_dtype()
            op.output(0).replace(ov.opset13.constant(shape, dtype=kind).output(0))
    return model


def cut(model: Any, facts: GraphFacts) -> dict[str, Any]:
    """The graph that tracks, and the one that makes a template's tokens for it where they can be kept."""
    import openvino as ov

    if not facts.keeps:
        return {"follow": model}
    images = [port.get_node() for port in model.inputs]
    results = [port.get_node() for port in model.outputs]
    count, tokens = len(facts.template), []
    for result in results[len(MAPS) :]:
        made = result.input(0).get_source_output()
        given = ov.opset13.parameter(made.get_partial_shape(), made.get_element_type())
        for consumer in made.get_target_inputs():
            if consumer.get_node().get_type_name() != "Result":
                consumer.replace_source_output(given.output(0))
        tokens.append(given)
    return {
        "remember": ov.Model(results[len(MAPS) :], images[:count], "remember"),
        "follow": ov.Model(results[: len(MAPS)], [*tokens, *images[count:]], "follow"),
    }


def behead(model: Any) -> dict[str, Any]:
    """A graph that tracks, and apart from it its head where that reads many channels, to be computed in float32.

    The head begins at the first convolution after the last matrix product. What it sums over is the transformer's
    tokens: the more channels, the more 16 bits lose.
    """
    import openvino as ov

    ops = model.get_ordered_ops()
    last = max((index for index, op in enumerate(ops) if op.get_type_name() in PRODUCTS), default=None)
    if last is None:
        return {"follow": model}
    first = next((op for op in ops[last:] if op.get_type_name() in CONVOLUTIONS), None)
    if first is None:
        return {"follow": model}
    features = first.input(0).get_source_output()
    if features.get_partial_shape()[1].get_length() < WIDE:
        return {"follow": model}
    given = ov.opset13.parameter(features.get_partial_shape(), features.get_element_type())
    for consumer in features.get_target_inputs():
        consumer.replace_source_output(given.output(0))
    return {
        "follow": ov.Model([ov.opset13.result(features)], model.get_parameters(), "body"),
        "head": ov.Model([port.get_node() for port in model.outputs], [given], "head"),
    }

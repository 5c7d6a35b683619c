"""Models of a few kB with random weights, in folders like the hub's: no download is needed."""

import json

import torch

WORDS = ["how", "do", "i", "open", "an", "account", "the", "cat", "sleeps", "on", "a", "sofa"]


def write(folder, model, **files):
    """Saves a model as the hub keeps it, with JSON files beside it."""
    model.save_pretrained(folder)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def transformer(**more):
    return {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "initializer_range": 0.3,  # so that vectors differ clearly
    } | more


def normalised(kind, mean=0.5, std=0.25, **more):
    return {
        "image_processor_type": kind,
        "do_resize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [mean, 0.4, 0.3],
        "image_std": [std, 0.5, 0.75],
    } | more


SQUEEZED = normalised("ViTImageProcessor", size={"height": 16, "width": 16}, resample=2)
CROPPED = normalised(
    "CLIPImageProcessor",
    size={"shortest_edge": 16},
    crop_size={"height": 16, "width": 16},
    do_center_crop=True,
    do_convert_rgb=True,
    resample=3,
)
ENLARGED = normalised(
    "ConvNextImageProcessor", size={"shortest_edge": 28}, crop_pct=0.875, resample=3
)


def vit(folder):
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(image_size=16, patch_size=8, num_labels=3, **transformer())
    # A classifier's checkpoint has no pooler, as most of ViT on the hub.
    return write(folder, ViTForImageClassification(config), preprocessor_config=SQUEEZED)


def dinov2(folder):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(image_size=16, patch_size=8, mlp_ratio=2, **transformer())
    processor = CROPPED | {"image_processor_type": "BitImageProcessor"}
    return write(folder, Dinov2Model(config), preprocessor_config=processor)


def clip(folder):
    from transformers import CLIPConfig, CLIPModel

    few = transformer(projection_dim=12)
    text = few | {"vocab_size": 20, "max_position_embeddings": 12} | special_tokens(17, 18)
    config = CLIPConfig(
        text_config=text,
        vision_config=few | {"image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    write(folder, CLIPModel(config), preprocessor_config=CROPPED)
    return word_tokenizer(folder, begin="<begin>", end="<end>")


def siglip(folder):
    from transformers import SiglipConfig, SiglipModel

    text = {"vocab_size": 20, "max_position_embeddings": 8, "projection_size": 16}
    config = SiglipConfig(
        text_config=transformer(**text, **special_tokens(17, 18)),
        vision_config=transformer(image_size=16, patch_size=8),
    )
    processor = SQUEEZED | {"image_processor_type": "SiglipImageProcessor", "resample": 3}
    write(folder, SiglipModel(config), preprocessor_config=processor)
    return word_tokenizer(folder, end="<end>")


def special_tokens(begin, end):
    return {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": 19}


def convnext(folder):
    from transformers import ConvNextConfig, ConvNextForImageClassification

    config = ConvNextConfig(hidden_sizes=[4, 6, 8, 10], depths=[1, 1, 1, 1], patch_size=2)
    return write(folder, ConvNextForImageClassification(config), preprocessor_config=ENLARGED)


def resnet(folder):
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=4, hidden_sizes=[4, 8, 12, 16], depths=[1, 1, 1, 1])
    return write(folder, ResNetForImageClassification(config), preprocessor_config=ENLARGED)


def bert(folder, **more):
    from transformers import BertConfig, BertForMaskedLM

    settings = transformer(vocab_size=20, max_position_embeddings=16, pad_token_id=19) | more
    write(folder, BertForMaskedLM(BertConfig(**settings)))
    return word_tokenizer(folder, begin="<begin>", end="<end>")


def word_tokenizer(folder, begin=None, end=None):
    """A tokenizer of WORDS; what it does not know is <unknown>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(WORDS)}
    special = {"<unknown>": 16, "<begin>": 17, "<end>": 18, "<padding>": 19}
    rust = Tokenizer(models.WordLevel(vocabulary | special, unk_token="<unknown>"))
    rust.pre_tokenizer = pre_tokenizers.Whitespace()
    parts = [part for part in (begin, "$A", end) if part]
    around = [(part, special[part]) for part in (begin, end) if part]
    rust.post_processor = processors.TemplateProcessing(
        single=" ".join(parts), special_tokens=around
    )
    names = {"bos_token": "<begin>", "eos_token": "<end>", "pad_token": "<padding>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=rust, unk_token="<unknown>", **names)
    tokenizer.save_pretrained(folder)
    return folder


def speech(**more):
    return transformer(
        conv_dim=[8, 8, 8],
        conv_kernel=[10, 3, 2],
        conv_stride=[5, 2, 2],
        num_feat_extract_layers=3,
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=2,
        **more,
    )


WAVEFORM = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "sampling_rate": 1000,
    "padding_value": 0.0,
    "do_normalize": True,
    "return_attention_mask": False,
}


def wav2vec2(folder):
    from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

    model = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=20, **speech()))
    return write(folder, model, preprocessor_config=WAVEFORM)


def hubert(folder):
    from transformers import HubertConfig, HubertModel

    model = HubertModel(HubertConfig(**speech(feat_extract_norm="layer")))
    return write(folder, model, preprocessor_config=WAVEFORM | {"do_normalize": False})


def whisper(folder):
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperForConditionalGeneration

    sizes = {
        f"{part}_{what}": n
        for part in ("encoder", "decoder")
        for what, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 24))
    }
    config = WhisperConfig(
        d_model=16, num_mel_bins=8, max_source_positions=50, vocab_size=30, init_std=0.3,
        max_target_positions=8, pad_token_id=1, bos_token_id=1, eos_token_id=1,
        decoder_start_token_id=1, suppress_tokens=None, begin_suppress_tokens=None, **sizes,
    )  # fmt: skip
    extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=1)
    extractor.save_pretrained(folder)
    return write(folder, WhisperForConditionalGeneration(config))


def ast(folder):
    from transformers import ASTConfig, ASTFeatureExtractor, ASTForAudioClassification

    config = ASTConfig(
        max_length=32, num_mel_bins=16, patch_size=8, time_stride=8, frequency_stride=8,
        **transformer(),
    )  # fmt: skip
    ASTFeatureExtractor(num_mel_bins=16, max_length=32).save_pretrained(folder)
    return write(folder, ASTForAudioClassification(config))


def clap(folder):
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    audio = {
        "window_size": 2, "num_mel_bins": 16, "spec_size": 32, "patch_size": 4,
        "patch_stride": [4, 4], "num_classes": 2, "hidden_size": 16, "projection_dim": 12,
        "depths": [1, 1], "num_attention_heads": [2, 2], "patch_embeds_hidden_size": 8,
        "enable_fusion": True, "patch_embed_input_channels": 1, "aff_block_r": 2,
    }  # fmt: skip
    text = transformer(vocab_size=20, max_position_embeddings=24, projection_dim=12, pad_token_id=1)
    model = ClapModel(ClapConfig(audio_config=audio, text_config=text, projection_dim=12))
    ClapFeatureExtractor(
        feature_size=16, sampling_rate=8000, hop_length=128, max_length_s=1, fft_window_size=256,
        frequency_max=4000,
    ).save_pretrained(folder)  # fmt: skip
    write(folder, model)
    return word_tokenizer(folder, begin="<begin>", end="<end>")


def seeded(make, folder):
    """The folder of a model with the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make(folder)

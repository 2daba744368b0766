"""Tiny models with random weights, of the very classes that published weights are read by, written as files.

Grounding DINO takes ids of BERT's vocabulary for the ends of phrases, so the words made here stand where BERT has them.
"""

from __future__ import annotations

import json
from pathlib import Path

WORDS = (
    "road",
    "tree",
    "car",
    "sky",
    "traffic",
    "light",
    "sign",
    "pole",
    "wheel",
    "person",
    "bus",
    "van",
    "side",
    "walk",
)
SIZE = 1100


def _vocabulary() -> list[str]:
    words = [f"[unused{i}]" for i in range(SIZE)]
    for place, word in {
        0: "[PAD]",
        100: "[UNK]",
        101: "[CLS]",
        102: "[SEP]",
        103: "[MASK]",
        1012: ".",
        1029: "?",
    }.items():
        words[place] = word
    for i, word in enumerate(WORDS):
        words[200 + i] = word
    for i, letter in enumerate("abcdefghijklmnopqrstuvwxyz0123456789"):
        words[300 + i], words[400 + i] = letter, "##" + letter
    return words


def write_detector(folder: Path, *, seed: int = 0, window: int = 256) -> Path:
    import torch
    import transformers as hf

    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(_vocabulary()) + "\n")
    torch.manual_seed(seed)
    config = hf.GroundingDinoConfig(
        backbone_config=hf.SwinConfig(
            window_size=7,
            image_size=224,
            embed_dim=12,
            depths=[1, 1, 2, 1],
            num_heads=[1, 2, 3, 3],
            out_features=["stage2", "stage3", "stage4"],
            out_indices=[2, 3, 4],
        ),
        text_config=hf.BertConfig(
            hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=2, vocab_size=SIZE
        ),
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        encoder_n_points=2,
        decoder_n_points=2,
        num_queries=20,
        max_text_len=window,
        dropout=0.0,
    )
    hf.GroundingDinoForObjectDetection(config).eval().save_pretrained(folder)
    tokenizer = hf.BertTokenizer(vocab=str(folder / "vocab.txt"), do_lower_case=True)
    hf.GroundingDinoProcessor(hf.GroundingDinoImageProcessor(), tokenizer).save_pretrained(folder)
    return folder


def write_sam(folder: Path, *, seed: int = 0) -> Path:
    import torch
    import transformers as hf

    torch.manual_seed(seed)
    config = hf.SamConfig(
        vision_config=hf.SamVisionConfig(
            hidden_size=32,
            output_channels=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=64,
            patch_size=8,
            window_size=4,
            global_attn_indexes=[1],
            num_pos_feats=16,
            mlp_dim=32,
            initializer_range=0.02,
        ).to_dict(),
        prompt_encoder_config=hf.SamPromptEncoderConfig(
            hidden_size=32, image_size=64, patch_size=8, mask_input_channels=4
        ).to_dict(),
        mask_decoder_config=hf.SamMaskDecoderConfig(
            hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32
        ).to_dict(),
    )
    hf.SamModel(config).eval().save_pretrained(folder)
    hf.SamProcessor(
        hf.SamImageProcessor(
            size={"longest_edge": 64},
            pad_size={"height": 64, "width": 64},
            mask_size={"longest_edge": 16},
            mask_pad_size={"height": 16, "width": 16},
        )
    ).save_pretrained(folder)
    return folder


def write_sam2(folder: Path, *, seed: int = 0) -> Path:
    import torch
    import transformers as hf

    torch.manual_seed(seed)
    backbone = hf.Sam2HieraDetConfig(
        hidden_size=12,
        num_attention_heads=1,
        image_size=[64, 64],
        embed_dim_per_stage=[12, 24, 48, 96],
        num_attention_heads_per_stage=[1, 2, 4, 8],
        blocks_per_stage=[1, 2, 2, 1],
        window_size_per_stage=[8, 4, 4, 2],
        global_attention_blocks=[4],
        window_positional_embedding_background_size=[7, 7],
    )
    config = hf.Sam2Config(
        vision_config=hf.Sam2VisionConfig(
            backbone_config=backbone,
            backbone_channel_list=[96, 48, 24, 12],
            backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]],
            fpn_hidden_size=32,
        ),
        prompt_encoder_config=hf.Sam2PromptEncoderConfig(
            hidden_size=32, image_size=64, patch_size=16, mask_input_channels=4
        ),
        mask_decoder_config=hf.Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=32, num_attention_heads=2, iou_head_hidden_dim=32
        ),
    )
    hf.Sam2Model(config).eval().save_pretrained(folder)
    processor = hf.Sam2ImageProcessor(size={"height": 64, "width": 64}, mask_size={"height": 16, "width": 16})
    hf.Sam2Processor(processor).save_pretrained(folder)
    return folder


def write_sam2_video(folder: Path, images: Path) -> Path:
    """The files as SAM 2.1 is published: the video model, its processor in two files, names of transformers 4."""
    import torch
    import transformers as hf

    config = hf.Sam2Model.from_pretrained(images).config
    torch.manual_seed(1)
    hf.Sam2VideoModel(
        hf.Sam2VideoConfig(
            vision_config=config.vision_config,
            prompt_encoder_config=config.prompt_encoder_config,
            mask_decoder_config=config.mask_decoder_config,
            image_size=64,
            memory_attention_hidden_size=32,
            memory_attention_num_layers=1,
            memory_attention_num_attention_heads=1,
            memory_attention_feed_forward_hidden_size=32,
            memory_attention_rope_feat_sizes=[4, 4],
            memory_encoder_hidden_size=32,
            memory_encoder_output_channels=16,
            mask_downsampler_embed_dim=32,
            memory_fuser_embed_dim=32,
            memory_fuser_intermediate_dim=32,
        )
    ).eval().save_pretrained(folder)
    processor = {"point_pad_value": -10, "processor_class": "Sam2VideoProcessor", "target_size": 64}
    (folder / "processor_config.json").write_text(json.dumps(processor))
    sizes = {"size": {"height": 64, "width": 64}, "mask_size": {"height": 16, "width": 16}}
    steps = {"do_convert_rgb": True, "do_normalize": True, "do_rescale": True, "do_resize": True, "resample": 2}
    about = {"image_processor_type": "Sam2ImageProcessorFast", "processor_class": "Sam2VideoProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(about | steps | sizes))
    return folder
